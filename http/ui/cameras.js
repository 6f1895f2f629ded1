// The list of cameras with their live state. Asks for the status of the cameras in sight only, so that a list of
// hundreds costs the service no more than a screenful.

import { json, paths, serverNow } from './api.js';
import { byId, make, setText } from './dom.js';
import { age, bitrate, parseTime, plural } from './format.js';
import { clearNotice, showProblem } from './notices.js';

const POLL_MS = 2000;
const FILTER_FROM = 9;
/** A camera's clock that is off by less than this is not worth words. */
const OFFSET_SHOWN_MS = 100;
/** Words for the states of the API; the key is also the class that colours the dot. */
const STATES = {
  recording: 'recording', connecting: 'connecting', backoff: 'down', shed: 'disk full', stopped: 'stopped',
  unknown: 'no answer',
};

/** Events: `select` when another camera is chosen, `change` when the list differs. */
export class Cameras extends EventTarget {
  constructor({ onRemove }) {
    super();
    this.onRemove = onRemove;
    this.list = [];
    this.selected = null;
    this.status = new Map();
    this.rows = new Map();
    this.visible = new Set();
    this.ready = false;
    this.observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.visible.add(target.dataset.id);
        else this.visible.delete(target.dataset.id);
      }
    });
    byId('filter').addEventListener('input', () => this.#filter());
  }

  start() {
    const turn = async () => {
      if (!document.hidden) await this.refresh();
      this.timer = setTimeout(turn, POLL_MS);
    };
    turn();
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.refresh(); });
  }

  /** The list, then the state of every camera in sight. */
  async refresh() {
    try {
      const answer = await json(paths.cameras);
      this.#setList(Array.isArray(answer) ? answer : answer.cameras ?? []);
      this.ready = true;
      clearNotice('service');
    } catch (problem) {
      if (problem.status !== 401) showProblem('service', problem);
      this.#forget();
      return;
    }
    const wanted = this.list.filter(({ id }) =>
      this.visible.has(id) || id === this.selected || this.list.length < FILTER_FROM);
    await Promise.all(wanted.map(({ id }) => this.#poll(id)));
    this.#summarize();
  }

  get current() {
    return this.list.find(({ id }) => id === this.selected) ?? null;
  }

  select(id) {
    if (this.selected === id) return;
    this.selected = id;
    for (const [other, row] of this.rows) this.#mark(other, row);
    this.dispatchEvent(new Event('select'));
  }

  #setList(list) {
    const shape = JSON.stringify(list);
    if (shape === this.shape) return;
    this.shape = shape;
    this.list = list;
    const kept = new Set(list.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (kept.has(id)) continue;
      this.observer.unobserve(row.item);
      row.item.remove();
      this.rows.delete(id);
      this.visible.delete(id);
      this.status.delete(id);
    }
    for (const camera of list) {
      const row = this.rows.get(camera.id) ?? this.#row(camera);
      setText(row.name, camera.name || camera.id);
      byId('cameras').append(row.item);
    }
    byId('filter').hidden = list.length < FILTER_FROM;
    this.#filter();
    if (this.selected && !kept.has(this.selected)) this.selected = null;
    this.dispatchEvent(new Event('change'));
  }

  #row(camera) {
    const part = (tag, name) => make(tag, { class: name });
    const row = {
      dot: part('i', 'dot'), name: part('span', 'name'), state: part('span', 'state'),
      rate: part('span', 'rate'), fresh: part('span', 'fresh'), faults: part('span', 'faults'),
    };
    row.dot.setAttribute('aria-hidden', 'true');
    row.button = make('button', { type: 'button', class: 'camera', onclick: () => this.select(camera.id) },
      make('span', { class: 'line' }, row.dot, row.name, row.state),
      row.rate, row.fresh, row.faults);
    row.remove = make('button', {
      type: 'button', class: 'remove', title: 'Remove this camera',
      'aria-label': `Remove camera ${camera.name || camera.id}`,
      onclick: () => this.onRemove(camera),
    }, '×');
    row.item = make('li', { 'data-id': camera.id }, row.button, row.remove);
    this.rows.set(camera.id, row);
    this.observer.observe(row.item);
    this.#mark(camera.id, row);
    return row;
  }

  #mark(id, row) {
    row.item.classList.toggle('selected', id === this.selected);
    if (id === this.selected) row.button.setAttribute('aria-current', 'true');
    else row.button.removeAttribute('aria-current');
  }

  async #poll(id) {
    let streams = [];
    try {
      streams = (await json(paths.status(id))).streams ?? [];
    } catch {
      streams = [{ stream: '', state: 'unknown' }];
    }
    this.status.set(id, streams);
    const row = this.rows.get(id);
    if (row) showStatus(row, streams);
  }

  /** Nothing is known any more: an old state must not look like a present one. */
  #forget() {
    for (const [id, row] of this.rows) {
      this.status.set(id, [{ state: 'unknown' }]);
      showStatus(row, this.status.get(id));
    }
    this.#summarize();
  }

  #filter() {
    const wanted = byId('filter').value.trim().toLowerCase();
    for (const { id, name } of this.list) {
      this.rows.get(id).item.hidden = Boolean(wanted) && !`${id} ${name ?? ''}`.toLowerCase().includes(wanted);
    }
  }

  #summarize() {
    const states = this.list.map(({ id }) => worst(this.status.get(id) ?? [])?.state);
    const recording = states.filter((state) => state === 'recording').length;
    const known = states.filter(Boolean).length;
    const count = this.list.length;
    const silent = count > 0 && states.every((state) => state === 'unknown');
    let text = known === count ? `${recording} of ${count} recording` : plural(count, 'camera');
    if (silent) text = 'state unknown';
    setText(byId('summary'), count ? text : '');
    byId('summary').classList.toggle('bad', known === count && recording < count);
  }
}

/** The stream that is worst off speaks for the camera. */
function worst(streams) {
  const order = ['unknown', 'shed', 'backoff', 'connecting', 'stopped', 'recording'];
  return [...streams].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state))[0];
}

function showStatus(row, streams) {
  const state = worst(streams)?.state ?? 'stopped';
  row.dot.className = `dot ${state in STATES ? state : 'unknown'}`;
  setText(row.state, STATES[state] ?? state);
  const live = streams.filter((stream) => stream.state === 'recording');
  const total = live.reduce((sum, { bitrate_bps: bps }) => sum + (bps ?? 0), 0);
  const fps = live[0]?.fps;
  setText(row.rate, listed(total ? bitrate(total) : '', fps ? `${Math.round(fps * 10) / 10} fps` : ''));
  setText(row.fresh, freshness(streams));
  for (const detail of [row.rate, row.fresh]) detail.hidden = !detail.textContent;
  row.button.title = streams.map(describe).join('\n');
  const gaps = streams.reduce((sum, stream) => sum + (stream.gaps_today ?? 0), 0);
  const failing = streams.find((stream) => stream.state !== 'recording' && stream.last_error);
  const faults = listed(failing ? failing.last_error : '', gaps ? `${plural(gaps, 'gap')} today` : '');
  setText(row.faults, faults);
  row.faults.hidden = !faults;
}

const listed = (...parts) => parts.filter(Boolean).join(' · ');

/** How old the newest fragment is and how far what is safe on disk lies behind now. */
function freshness(streams) {
  const ages = streams.map((stream) => stream.last_fragment_age_ms).filter((age) => age !== null && age !== undefined);
  const lags = streams.map((stream) => lag(stream)).filter((value) => value !== null);
  if (!ages.length) return '';
  if (!lags.length || worst(streams).state !== 'recording') return `last fragment ${age(Math.max(...ages))} ago`;
  return `fragment ${age(Math.max(...ages))} · durable ${age(Math.max(...lags))} ago`;
}

function lag(stream) {
  const until = parseTime(stream.durable_until);
  return until === null ? null : Math.max(0, serverNow() - until);
}

/** One line per stream for the tooltip, with everything that is known. */
function describe(stream) {
  const parts = [`${stream.stream || 'stream'}: ${STATES[stream.state] ?? stream.state}`];
  if (stream.bitrate_bps) parts.push(bitrate(stream.bitrate_bps));
  if (stream.last_fragment_age_ms !== null && stream.last_fragment_age_ms !== undefined) {
    parts.push(`last fragment ${age(stream.last_fragment_age_ms)} ago`);
  }
  if (lag(stream) !== null) parts.push(`durable up to ${age(lag(stream))} ago`);
  if (stream.packets_lost) parts.push(`${plural(stream.packets_lost, 'packet')} lost`);
  if (stream.reconnects) parts.push(plural(stream.reconnects, 'reconnect'));
  if (Math.abs(stream.clock_offset_ms ?? 0) >= OFFSET_SHOWN_MS) {
    parts.push(`camera clock off by ${Math.round(stream.clock_offset_ms)} ms`);
  }
  if (stream.last_error) parts.push(`last error: ${stream.last_error}`);
  return parts.join(', ');
}
