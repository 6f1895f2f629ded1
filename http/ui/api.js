// Requests to the service: the API key, problem documents (RFC 9457), and the server's clock.

const KEY = 'tierline.key';
const TIMEOUT_MS = 10_000;

let skew = 0;
const unauthorized = new EventTarget();

/** An answer that is not a success. `nearest` holds `{before, after}` where the server knows other footage, `readyAt` is
 *  when footage that is being restored can be read. */
export class Problem extends Error {
  constructor(status, document = {}) {
    super(document.detail || document.title || `the server answered ${status}`);
    this.status = status;
    this.title = document.title || (status ? `HTTP ${status}` : 'No connection');
    this.detail = document.detail || '';
    this.code = document.code || '';
    this.nearest = document.nearest || null;
    this.readyAt = document.ready_at || null;
  }
}

export const apiKey = () => sessionStorage.getItem(KEY) || '';

export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Calls back whenever the service refuses the key, or asks for one. */
export function onUnauthorized(listener) {
  unauthorized.addEventListener('unauthorized', listener);
}

/** For hls.js: puts the key on each of its requests. */
export function authorizeXhr(xhr) {
  if (apiKey()) xhr.setRequestHeader('Authorization', `Bearer ${apiKey()}`);
}

/** The server's wall clock. A browser whose own clock is off would otherwise show wrong ages. */
export const serverNow = () => Date.now() + skew;

/** A raw response; throws `Problem` for anything but success, status 0 when there was no answer. */
export async function request(path, { method = 'GET', body, signal, timeout = TIMEOUT_MS } = {}) {
  const headers = {};
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const limits = [signal, timeout && AbortSignal.timeout(timeout)].filter(Boolean);
  let response;
  try {
    response = await fetch(path, {
      method, headers, cache: 'no-store',
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.any(limits),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { title: 'No connection', detail: 'The service does not answer.' });
  }
  learnSkew(response.headers.get('Date'));
  if (!response.ok) throw await problemOf(response);
  return response;
}

export async function json(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

/** Reads a problem out of a finished XMLHttpRequest, for requests that hls.js made. */
export function problemOfXhr(xhr) {
  if (!xhr || !xhr.status) return new Problem(0, { detail: 'The service does not answer.' });
  if (xhr.status === 401) unauthorized.dispatchEvent(new Event('unauthorized'));
  try {
    return new Problem(xhr.status, JSON.parse(xhr.responseText));
  } catch {
    return new Problem(xhr.status);
  }
}

async function problemOf(response) {
  if (response.status === 401) unauthorized.dispatchEvent(new Event('unauthorized'));
  try {
    return new Problem(response.status, await response.json());
  } catch {
    return new Problem(response.status);
  }
}

/** The Date header has whole seconds and the answer took a while: only a difference beyond that is a wrong clock. */
function learnSkew(header) {
  const date = Date.parse(header ?? '');
  if (Number.isNaN(date)) return;
  const difference = date + 500 - Date.now();
  skew = Math.abs(difference) > 2000 ? difference : 0;
}

const camera = (id) => `/api/v1/cameras/${encodeURIComponent(id)}`;

/** Paths of the service, in one place. Times are milliseconds; see `rfc3339` for what goes over the wire. */
export const paths = {
  cameras: '/api/v1/cameras',
  forecast: '/api/v1/storage/forecast',
  holds: '/api/v1/holds',
  hold: (id, query) => `/api/v1/holds/${encodeURIComponent(id)}?${new URLSearchParams(query)}`,
  camera,
  status: (id) => `${camera(id)}/status`,
  timeline: (id, query) => `${camera(id)}/timeline?${new URLSearchParams(query)}`,
  snapshot: (id, query) => `${camera(id)}/snapshot.jpg?${new URLSearchParams(query)}`,
  export: (id, query) => `${camera(id)}/export.mp4?${new URLSearchParams(query)}`,
  live: (id) => `/hls/${encodeURIComponent(id)}/live.m3u8`,
  past: (id, query) => `/hls/${encodeURIComponent(id)}/index.m3u8?${new URLSearchParams(query)}`,
};
