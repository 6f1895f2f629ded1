// Starts the parts of the page and carries events between them.

import { apiKey, onUnauthorized, paths, serverNow, setApiKey } from './api.js';
import { connectAddForm, removeCamera } from './camera-form.js';
import { Cameras } from './cameras.js';
import { connectControls, connectKeys, showVeil } from './controls.js';
import { Coverage } from './coverage.js';
import { byId, make, setText } from './dom.js';
import { aimSnapshot, connectExport } from './export.js';
import { currentZone, dateField, dayStart, parseTime, seconds, setZone, shortDay, zoneName } from './format.js';
import { connectGapList } from './gaps.js';
import { connectHolds } from './holds.js';
import { clearNotice, showProblem } from './notices.js';
import { Player } from './player.js';
import { Storage } from './storage.js';
import { Timeline } from './timeline.js';

const DAY_MS = 86_400_000;

const player = new Player(byId('video'));
const coverage = new Coverage();
const timeline = new Timeline(byId('track'), byId('tip'), coverage);
const cameras = new Cameras({ onRemove: (camera) => removeCamera(camera, () => cameras.refresh()) });
window.tierline = { player, timeline, coverage, cameras };

const stream = () => byId('stream').value || null;
const exporting = connectExport({ timeline, coverage, camera: () => cameras.selected, stream });

function goLive() {
  if (!cameras.selected) return;
  player.wantsPlay = true;
  timeline.follow = true;
  player.setRate(1);
  player.openLive(cameras.selected);
  timeline.zoom(timeline.span, serverNow(), 0.82);
}

function goTo(time) {
  if (!cameras.selected) return;
  timeline.reveal(time);
  if (time >= serverNow() - 2000) goLive();
  else player.seek(time);
}

/** A step out of the open playlist: by wall time, and backwards over a gap to the footage before it. */
function stepOut(stepSeconds) {
  const from = player.playingTime ?? player.awaitedTime;
  if (from === null) return;
  const target = from + stepSeconds * 1000;
  goTo(stepSeconds < 0 ? coverage.recordedBefore(target) : target);
}

const actions = connectControls(player, { live: goLive, stepOut });
connectKeys({
  ' ': actions.play, k: actions.play, ArrowLeft: actions.back, ArrowRight: actions.forward, l: goLive,
  m: actions.mute, f: actions.full, h: () => byId('hold').click(), i: exporting.markIn, o: exporting.markOut,
  '+': () => timeline.zoomTo(timeline.span / 2), '-': () => timeline.zoomTo(timeline.span * 2),
});

// The player tells where it is; the timeline and the snapshot link follow.
player.addEventListener('time', () => {
  const time = player.playingTime;
  timeline.setPlayhead(time ?? player.awaitedTime);
  aimSnapshot(cameras.selected, time);
});

player.addEventListener('problem', ({ detail: told }) => {
  if (!told) {
    showVeil('');
    return;
  }
  const { problem, retrying } = told;
  if (problem.status === 401) return;
  const jumps = Object.entries(problem.nearest ?? {})
    .map(([side, text]) => [side, parseTime(text)])
    .filter(([, time]) => time !== null)
    .map(([side, time]) => ({
      label: `${side === 'before' ? '←' : '→'} ${shortDay(time)} ${seconds(time)}`,
      act: () => goTo(side === 'before' ? time - 1000 : time),
    }));
  const ready = parseTime(problem.readyAt);
  const detail = ready === null ? problem.detail : `Expected ${shortDay(ready)} ${seconds(ready)}. ${problem.detail}`;
  showVeil(retrying ? `${problem.title}, trying again` : problem.title, detail, jumps);
});

// The timeline asks for places in time, and for what is recorded in view.
timeline.addEventListener('seek', ({ detail }) => goTo(detail));
timeline.addEventListener('view', () => {
  coverage.want(timeline.view);
  showSpan();
});
connectGapList({ timeline, coverage, goTo });
connectHolds({ timeline, coverage, camera: () => cameras.selected, goTo });
const storage = new Storage(() => cameras.selected);
storage.start();
coverage.addEventListener('problem', ({ detail }) => {
  if (detail && detail.status !== 401 && detail.status !== 0) showProblem('timeline', detail);
  else clearNotice('timeline');
});
for (const button of document.querySelectorAll('[data-span]')) {
  button.addEventListener('click', () => timeline.zoomTo(Number(button.dataset.span)));
}
byId('day').addEventListener('change', (event) => {
  if (!event.target.value) return;
  const start = dayStart(event.target.value);
  timeline.follow = false;
  timeline.zoom(DAY_MS, start, 0);
});
byId('stream').addEventListener('change', () => {
  coverage.reset(cameras.selected, stream());
  coverage.want(timeline.view);
});

function showSpan() {
  for (const button of document.querySelectorAll('[data-span]')) {
    const pressed = Math.abs(Number(button.dataset.span) - timeline.span) < 1000;
    button.setAttribute('aria-pressed', String(pressed));
  }
  const field = byId('day');
  const middle = Math.min(serverNow(), (timeline.view.from + timeline.view.to) / 2);
  if (document.activeElement !== field) field.value = dateField(middle);
  field.max = dateField(serverNow());
}

// Cameras: the first one is shown, or the one that the address names.
cameras.addEventListener('change', () => {
  const empty = cameras.list.length === 0;
  byId('empty').hidden = !empty;
  for (const id of ['stage', 'controls', 'timeline']) byId(id).hidden = empty;
  if (empty) {
    player.close();
    coverage.reset(null, null);
    return;
  }
  const { camera, at } = addressed();
  if (!cameras.selected) {
    const known = cameras.list.find(({ id }) => id === camera);
    if (camera && !known) showProblem('camera', { title: 'No such camera', detail: camera });
    wantedAt = known ? at : null;
    cameras.select((known ?? cameras.list[0]).id);
  }
});

let wantedAt = null;

cameras.addEventListener('select', () => {
  const streams = cameras.current?.streams ?? [];
  byId('stream').replaceChildren(...streams.map(({ name }) => make('option', { value: name }, name)));
  byId('stream-box').hidden = streams.length < 2;
  coverage.reset(cameras.selected, stream());
  coverage.want(timeline.view);
  timeline.select(null, null);
  storage.show();
  document.title = `${cameras.current?.name || cameras.selected} · Tierline`;
  history.replaceState(null, '', `#${new URLSearchParams({ camera: cameras.selected })}`);
  player.wantsPlay = true;
  if (wantedAt !== null) {
    timeline.reveal(wantedAt);
    player.openAt(cameras.selected, wantedAt);
  } else goLive();
  wantedAt = null;
});

function addressed() {
  const query = new URLSearchParams(location.hash.slice(1));
  return { camera: query.get('camera'), at: parseTime(query.get('at')) };
}

window.addEventListener('hashchange', () => {
  const { camera, at } = addressed();
  if (!cameras.list.some(({ id }) => id === camera)) return;
  if (camera !== cameras.selected) {
    wantedAt = at;
    cameras.select(camera);
  } else if (at !== null) goTo(at);
});

// The key is asked for only when the service wants one.
onUnauthorized(() => {
  const refused = Boolean(apiKey());
  setText(byId('key-note'), refused
    ? 'That key was not accepted.'
    : 'This service asks for a key. It is kept for this browser tab only.');
  byId('key-note').classList.toggle('form-error', refused);
  byId('key-form').hidden = false;
});
byId('key-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  setApiKey(byId('key').value.trim());
  byId('key').value = '';
  byId('key-form').hidden = true;
  await cameras.refresh();
  if (cameras.selected && !player.playingTime) goLive();
});

connectAddForm(async (id) => {
  await cameras.refresh();
  if (cameras.list.some((camera) => camera.id === id)) cameras.select(id);
});

function showZone() {
  setText(byId('zone'), currentZone() === 'UTC' ? 'UTC' : `Local time (${zoneName()})`);
}
byId('zone').addEventListener('click', () => {
  setZone(currentZone() === 'UTC' ? 'local' : 'UTC');
  showZone();
  showSpan();
  exporting.refresh();
  storage.show();
  timeline.redraw();
});

setText(byId('empty-api'), `curl -X POST ${location.origin}${paths.cameras} \\
  -H 'Content-Type: application/json' \\
  -d '{"id": "lobby", "name": "Lobby",
       "streams": [{"name": "main", "url": "rtsp://10.0.0.20/stream1"}]}'`);
setText(byId('empty-config'), `[[cameras]]
id = "lobby"
name = "Lobby"

[[cameras.streams]]
name = "main"
url = "rtsp://10.0.0.20/stream1"`);
showZone();
showSpan();
exporting.refresh();
cameras.start();
