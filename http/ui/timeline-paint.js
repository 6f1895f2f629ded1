// Paints a timeline onto its canvas: ruler, activity, recorded spans, gaps, selection, playhead.

import { serverNow } from './api.js';
import { minutes, seconds, shortDay, WANTED_CAUSES, zoneOffset } from './format.js';

const RULER = 22;
const ACTIVITY = 26;
const BAND = 26;
/** Distance of the band from the top, and the height that the canvas should have. */
const BAND_TOP = RULER + ACTIVITY + 4;
export const HEIGHT = BAND_TOP + BAND + 10;

const COLOURS = {
  hot: '#3fa48d', warm: '#b98f45', cold: '#6480c4', gap: '#e2695f', gapBack: '#2b1a1d', wanted: '#4b5766', wantedBack: '#151b23',
  back: '#0c1015',
  line: '#222a34', text: '#8d99a8', activity: '#7d8fa3', playhead: '#ffffff', select: '#f2d479', future: '#11161d',
};

const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800]
  .map((s) => s * 1000);
const LABEL_WIDTH = 74;
const hatches = new Map();

export function paint(canvas, timeline) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  if (!width) return;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(HEIGHT * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(HEIGHT * scale);
  }
  const ctx = canvas.getContext('2d');
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  ctx.clearRect(0, 0, width, HEIGHT);
  ruler(ctx, timeline, width);
  band(ctx, timeline, width);
  activity(ctx, timeline, width);
  selection(ctx, timeline, width);
  if (timeline.hover !== null) upright(ctx, timeline.hover, 'rgba(255,255,255,.28)', RULER);
  if (timeline.playhead !== null) playhead(ctx, timeline.xOf(timeline.playhead), width);
}

function ruler(ctx, timeline, width) {
  const step = STEPS.find((ms) => (ms / timeline.span) * width >= LABEL_WIDTH) ?? STEPS[STEPS.length - 1];
  const offset = zoneOffset(timeline.view.from);
  ctx.font = '11px system-ui, sans-serif';
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'center';
  const first = Math.ceil((timeline.view.from + offset) / step) * step - offset;
  for (let time = first; time <= timeline.view.to; time += step) {
    const x = Math.round(timeline.xOf(time)) + 0.5;
    const midnight = (time + offset) % 86_400_000 === 0;
    ctx.fillStyle = COLOURS.line;
    ctx.fillRect(x - 0.5, RULER - 3, 1, HEIGHT - RULER + 3);
    ctx.fillStyle = midnight ? '#d5dce5' : COLOURS.text;
    const label = midnight ? shortDay(time) : step < 60_000 ? seconds(time) : minutes(time);
    ctx.fillText(label, Math.min(Math.max(x, 20), width - 20), RULER / 2);
  }
}

function band(ctx, timeline, width) {
  ctx.fillStyle = COLOURS.back;
  ctx.fillRect(0, BAND_TOP, width, BAND);
  const now = timeline.xOf(serverNow());
  if (now < width) {
    ctx.fillStyle = COLOURS.future;
    ctx.fillRect(Math.max(0, now), BAND_TOP, width, BAND);
  }
  for (const { from, to, tier } of timeline.coverage.runs) {
    const x = timeline.xOf(from);
    const end = timeline.xOf(to);
    if (end < 0 || x > width) continue;
    ctx.fillStyle = COLOURS[tier] ?? COLOURS.hot;
    ctx.fillRect(Math.max(0, x), BAND_TOP, Math.max(1, Math.min(width, end) - Math.max(0, x)), BAND);
  }
  for (const { from, to, cause } of timeline.coverage.gaps) {
    const x = Math.max(0, timeline.xOf(from));
    const end = Math.min(width, timeline.xOf(to));
    if (end < 0 || x > width) continue;
    const wide = Math.max(2, end - x);
    const wanted = WANTED_CAUSES.has(cause);
    const line = wanted ? COLOURS.wanted : COLOURS.gap;
    ctx.fillStyle = wanted ? COLOURS.wantedBack : COLOURS.gapBack;
    ctx.fillRect(x, BAND_TOP, wide, BAND);
    ctx.fillStyle = wide > 4 ? hatching(ctx, line) : line;
    ctx.fillRect(x, BAND_TOP, wide, BAND);
  }
  if (now >= 0 && now <= width) upright(ctx, now, '#ff6b61', BAND_TOP - 4);
}

function activity(ctx, timeline, width) {
  ctx.fillStyle = COLOURS.activity;
  for (const { at, level, ms } of timeline.coverage.activity) {
    const x = timeline.xOf(at);
    const bar = Math.max(1, (ms / timeline.span) * width);
    if (x + bar < 0 || x > width || !level) continue;
    const high = Math.max(1, (level / 255) * ACTIVITY);
    ctx.globalAlpha = 0.35 + 0.65 * (level / 255);
    ctx.fillRect(x, RULER + 2 + ACTIVITY - high, Math.max(1, bar - (bar > 3 ? 1 : 0)), high);
  }
  ctx.globalAlpha = 1;
}

function selection(ctx, timeline, width) {
  const marked = timeline.selection;
  if (!marked) return;
  const from = marked.from === null ? null : timeline.xOf(marked.from);
  const to = marked.to === null ? null : timeline.xOf(marked.to);
  ctx.fillStyle = COLOURS.select;
  if (from !== null && to !== null) {
    ctx.globalAlpha = 0.2;
    ctx.fillRect(Math.max(0, from), RULER, Math.max(0, Math.min(width, to) - Math.max(0, from)), HEIGHT - RULER);
    ctx.globalAlpha = 1;
    ctx.fillRect(Math.max(0, from), BAND_TOP + BAND, Math.max(1, Math.min(width, to) - Math.max(0, from)), 2);
  }
  for (const x of [from, to]) if (x !== null) handle(ctx, x);
}

function handle(ctx, x) {
  ctx.fillStyle = COLOURS.select;
  ctx.fillRect(Math.round(x) - 1, RULER, 2, HEIGHT - RULER);
  ctx.beginPath();
  ctx.roundRect(Math.round(x) - 4, BAND_TOP + 6, 8, BAND - 12, 3);
  ctx.fill();
}

function playhead(ctx, x, width) {
  if (x < -6 || x > width + 6) return;
  upright(ctx, x, 'rgba(0,0,0,.6)', RULER - 4, 4);
  upright(ctx, x, COLOURS.playhead, RULER - 4, 2);
  ctx.fillStyle = COLOURS.playhead;
  ctx.beginPath();
  ctx.moveTo(x - 6, RULER - 9);
  ctx.lineTo(x + 6, RULER - 9);
  ctx.lineTo(x, RULER - 1);
  ctx.fill();
}

function upright(ctx, x, colour, top, wide = 1) {
  ctx.fillStyle = colour;
  ctx.fillRect(Math.round(x) - wide / 2, top, wide, HEIGHT - top - 4);
}

function hatching(ctx, colour) {
  if (hatches.has(colour)) return hatches.get(colour);
  const tile = document.createElement('canvas');
  tile.width = 8;
  tile.height = 8;
  const pen = tile.getContext('2d');
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.beginPath();
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift - 1, 9);
    pen.lineTo(shift + 9, -1);
  }
  pen.stroke();
  hatches.set(colour, ctx.createPattern(tile, 'repeat'));
  return hatches.get(colour);
}
