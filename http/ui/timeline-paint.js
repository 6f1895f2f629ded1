// Paints a timeline onto its canvas: ruler, activity, recorded spans, gaps, selection, playhead.

import { serverNow } from './api.js';
import { minutes, seconds, shortDay, WANTED_CAUSES, zoneOffset } from './format.js';

const RULER = 22;
const ACTIVITY = 26;
const BAND = 26;
const HOLD = 7;
/** Distance of the band from the top, of the holds under it, and the height that the canvas should have. */
const BAND_TOP = RULER + ACTIVITY + 4;
const HOLD_TOP = BAND_TOP + BAND + 4;
export const HEIGHT = HOLD_TOP + HOLD + 4;
/** Lines across the band, so that tiers differ by more than their colour; as shares of its height. */
const TIER_LINES = { warm: [0.72], cold: [0.6, 0.84] };
/** A span that is wider names its tier. */
const NAMED_FROM = 52;

const COLOURS = {
  hot: '#3fa48d', warm: '#b98f45', cold: '#6480c4', gap: '#e2695f', gapBack: '#2b1a1d', wanted: '#4b5766', wantedBack: '#151b23',
  hold: '#c9a2f2', restoring: '#f4f7fa',
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
  restoring(ctx, timeline, width);
  holds(ctx, timeline, width);
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
    const left = Math.max(0, x);
    const wide = Math.max(1, Math.min(width, end) - left);
    ctx.fillRect(left, BAND_TOP, wide, BAND);
    tierMarks(ctx, tier, left, wide);
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

function tierMarks(ctx, tier, left, wide) {
  if (!TIER_LINES[tier]) return;
  ctx.fillStyle = 'rgba(6,10,15,.6)';
  for (const share of TIER_LINES[tier]) ctx.fillRect(left, Math.round(BAND_TOP + BAND * share), wide, 2);
  if (wide >= NAMED_FROM) label(ctx, tier, left + 6, '#06090d');
}

function label(ctx, text, x, colour) {
  ctx.font = '600 11px system-ui, sans-serif';
  ctx.textAlign = 'left';
  ctx.fillStyle = colour;
  ctx.fillText(text, x, BAND_TOP + 9);
}

/** Footage on its way back from an archive class: framed with dashes, and named. */
function restoring(ctx, timeline, width) {
  for (const { from, to } of timeline.coverage.restoring) {
    const x = Math.max(0, timeline.xOf(from));
    const end = Math.min(width, timeline.xOf(to));
    if (end < 0 || x > width) continue;
    ctx.save();
    ctx.strokeStyle = COLOURS.restoring;
    ctx.lineWidth = 2;
    ctx.setLineDash([4, 3]);
    ctx.strokeRect(x + 1, BAND_TOP + 1, Math.max(2, end - x - 2), BAND - 2);
    ctx.restore();
    if (end - x >= 2 * NAMED_FROM) label(ctx, 'restoring', x + 44, '#06090d');
  }
}

/** A bar under what is held, with ends that stand out. */
function holds(ctx, timeline, width) {
  ctx.fillStyle = COLOURS.hold;
  for (const { from, to } of timeline.coverage.holds) {
    const x = timeline.xOf(from);
    const end = timeline.xOf(to);
    if (end < 0 || x > width) continue;
    const left = Math.max(0, x);
    ctx.fillRect(left, HOLD_TOP + 2, Math.max(2, Math.min(width, end) - left), HOLD - 4);
    for (const edge of [x, end - 2]) if (edge >= 0 && edge <= width) ctx.fillRect(Math.round(edge), HOLD_TOP, 2, HOLD);
  }
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
