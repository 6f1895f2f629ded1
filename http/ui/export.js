// The selection in words, its export as MP4, and the still at the playhead.

import { apiKey, paths, request } from './api.js';
import { byId, setText } from './dom.js';
import { bytes, day, duration, exact, plural, rfc3339, zoneName } from './format.js';
import { showNews, showProblem } from './notices.js';

/** Where no end is marked yet, a selection by button runs this long. */
const DEFAULT_MS = 60_000;

export function connectExport({ timeline, coverage, camera, stream }) {
  const mark = (edge) => {
    const time = timeline.playhead;
    if (time === null) return;
    const { from = null, to = null } = timeline.selection ?? {};
    if (edge === 'from') timeline.select(time, to !== null && to > time ? to : null);
    else timeline.select(from !== null && from < time ? from : time - DEFAULT_MS, time);
  };
  const show = () => showSelection(timeline.selection, coverage);
  timeline.addEventListener('select', show);
  coverage.addEventListener('change', show);
  byId('mark-in').addEventListener('click', () => mark('from'));
  byId('mark-out').addEventListener('click', () => mark('to'));
  byId('clear').addEventListener('click', () => timeline.select(null, null));
  byId('export').addEventListener('click', () => exportSpan(camera(), stream(), timeline.selection));
  byId('snapshot').addEventListener('click', (event) => {
    if (!apiKey()) return;
    event.preventDefault();
    download(byId('snapshot').href, byId('snapshot').download).catch((problem) => showProblem('snapshot', problem));
  });
  return { markIn: () => mark('from'), markOut: () => mark('to'), refresh: show };
}

/** Points the snapshot link at the picture on screen. */
export function aimSnapshot(camera, time) {
  const link = byId('snapshot');
  const off = !camera || time === null;
  link.setAttribute('aria-disabled', String(off));
  if (off) {
    link.removeAttribute('href');
    return;
  }
  link.href = paths.snapshot(camera, { at: rfc3339(time) });
  if (apiKey()) link.download = fileName(camera, time, 'jpg');
}

function showSelection(selection, coverage) {
  const whole = selection && selection.from !== null && selection.to !== null;
  byId('export').disabled = !whole;
  byId('clear').hidden = !selection;
  const text = byId('selection');
  if (!selection) setText(text, 'Mark In and Out, or shift and drag, to select a span');
  else if (!whole) setText(text, `From ${exact(selection.from)} · mark the end with Out`);
  else {
    const { gaps, ms } = coverage.missing(selection);
    const known = gaps.length && coverage.knows(selection);
    const missing = known ? ` · ${plural(gaps.length, 'gap')}, ${duration(ms)} missing` : '';
    setText(text, `${span(selection)} · ${duration(selection.to - selection.from)}${missing}`);
  }
}

const span = ({ from, to }) => day(from) === day(to)
  ? `${exact(from)} – ${exact(to)} ${zoneName(to)}`
  : `${day(from)} ${exact(from)} – ${day(to)} ${exact(to)} ${zoneName(to)}`;

async function exportSpan(camera, stream, selection) {
  const query = { from: rfc3339(selection.from), to: rfc3339(selection.to) };
  if (stream) query.stream = stream;
  const path = paths.export(camera, query);
  const button = byId('export');
  button.disabled = true;
  try {
    const size = await exportSize(path);
    showNews('export', size ? `Exporting ${bytes(size)}` : 'Exporting', span(selection));
    await download(path, fileName(camera, selection.from, 'mp4'));
  } catch (problem) {
    showProblem('export', problem);
  }
  button.disabled = false;
}

/** Asks with HEAD first: an error becomes a message on the page instead of a broken download. */
async function exportSize(path) {
  try {
    const head = await request(path, { method: 'HEAD', timeout: 60_000 });
    return Number(head.headers.get('Content-Length'));
  } catch (problem) {
    if (!problem.status) throw problem;
    const abort = new AbortController();
    await request(path, { signal: abort.signal });
    abort.abort();
    return 0;
  }
}

/** A plain download; with a key the request has to carry it, so the answer is fetched and handed over as a file. */
async function download(path, name) {
  const link = document.createElement('a');
  link.download = name;
  link.href = path;
  if (apiKey()) {
    const response = await request(path, { timeout: 0 });
    link.href = URL.createObjectURL(await response.blob());
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
  link.click();
}

const fileName = (camera, time, extension) =>
  `${camera}_${rfc3339(time).slice(0, 10)}_${rfc3339(time).slice(11, 19).replaceAll(':', '-')}Z.${extension}`;
