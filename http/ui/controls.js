// The row under the picture: clock, buttons, speed, quality; and what stands over the picture.

import { serverNow } from './api.js';
import { byId, make, setIcon, setText } from './dom.js';
import { age, bitrate, day, duration, exact, rfc3339, zoneName } from './format.js';

const STEP_SECONDS = 10;
/** The picture may pause for this long before the page says that it loads. */
const VEIL_AFTER_MS = 400;

/** Connects buttons and player; `live()` and `stepOut(seconds)` do what the player cannot within its playlist. */
export function connectControls(player, { live, stepOut }) {
  const step = (seconds) => player.step(seconds) || stepOut(seconds);
  const actions = {
    play: () => player.toggle(),
    back: () => step(-STEP_SECONDS),
    forward: () => step(STEP_SECONDS),
    live,
    mute: () => { player.video.muted = !player.video.muted; },
    full: () => toggleFullScreen(byId('stage')),
  };
  for (const [id, act] of Object.entries(actions)) byId(id).addEventListener('click', act);
  byId('rate').addEventListener('change', (event) => player.setRate(Number(event.target.value)));
  byId('quality').addEventListener('change', (event) => player.setQuality(Number(event.target.value)));
  player.video.addEventListener('click', actions.play);
  player.addEventListener('time', () => showClock(player));
  player.addEventListener('state', () => showState(player));
  player.addEventListener('levels', () => showLevels(player));
  setInterval(() => showClock(player), 250);
  return actions;
}

/** Keyboard of the whole page; keys typed into fields and on buttons stay theirs. */
export function connectKeys(keys) {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector('dialog[open]')) return;
    const tag = event.target.tagName;
    if (tag === 'INPUT' || tag === 'SELECT' || tag === 'TEXTAREA') return;
    if (event.key === ' ' && (tag === 'BUTTON' || tag === 'A' || tag === 'SUMMARY')) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function showClock(player) {
  const time = player.playingTime;
  const clock = byId('clock');
  if (time === null) {
    setText(clock, '–');
    setText(byId('date'), '');
    setText(byId('lag'), '');
    byId('live').setAttribute('aria-pressed', 'false');
    byId('badge').hidden = true;
    return;
  }
  clock.dateTime = rfc3339(time);
  setText(clock, exact(time).slice(0, -2));
  const behind = Math.max(0, serverNow() - time);
  const atLive = player.atLive;
  setText(byId('date'), `${day(time)} ${zoneName(time)}`);
  setText(byId('lag'), atLive ? `${age(behind)} behind the camera` : `${duration(behind)} ago`);
  byId('live').setAttribute('aria-pressed', String(atLive));
  const badge = byId('badge');
  badge.hidden = false;
  badge.classList.toggle('on', atLive);
  setText(badge, atLive ? 'Live' : 'Recorded');
}

let veilTimer;

function showState(player) {
  const { video } = player;
  setIcon(byId('play'), video.paused ? 'i-play' : 'i-pause');
  byId('play').setAttribute('aria-label', video.paused ? 'Play' : 'Pause');
  setIcon(byId('mute'), video.muted ? 'i-mute' : 'i-sound');
  byId('mute').setAttribute('aria-pressed', String(!video.muted));
  const rate = byId('rate');
  if (Number(rate.value) !== player.rate) rate.value = String(player.rate);
  clearTimeout(veilTimer);
  if (player.failed) return;
  if (player.loading) veilTimer = setTimeout(() => showVeil('Loading…'), VEIL_AFTER_MS);
  else showVeil(video.ended ? 'End of this footage' : '');
}

/** Words, and buttons if any, over the picture. An empty text takes them away. */
export function showVeil(text, detail = '', actions = []) {
  clearTimeout(veilTimer);
  const veil = byId('veil');
  veil.hidden = !text;
  veil.replaceChildren(
    make('strong', {}, text),
    ...(detail ? [make('span', {}, detail)] : []),
    ...(actions.length ? [make('div', { class: 'row' }, ...actions.map(({ label, act }) =>
      make('button', { type: 'button', onclick: act }, label)))] : []));
}

function showLevels(player) {
  const levels = player.hls?.levels ?? [];
  byId('quality-box').hidden = levels.length < 2;
  const select = byId('quality');
  const label = ({ name, height, bitrate: bps }) => name || (height ? `${height}p` : bitrate(bps));
  const playing = levels[player.hls?.currentLevel];
  select.replaceChildren(
    make('option', { value: '-1' }, playing && player.hls.autoLevelEnabled ? `Auto (${label(playing)})` : 'Auto'),
    ...levels.map((level, index) => make('option', { value: String(index) }, label(level))));
  if (player.hls) select.value = player.hls.autoLevelEnabled ? '-1' : String(player.hls.currentLevel);
}

function toggleFullScreen(element) {
  if (document.fullscreenElement) document.exitFullscreen();
  else element.requestFullscreen?.().catch(() => {});
}
