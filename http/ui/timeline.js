// The timeline: which span is in view, what is selected, where the playhead is. Painting and gestures stand beside it.

import { serverNow } from './api.js';
import { cause, duration, exact, seconds, shortDay, day, tierWord, zoneName } from './format.js';
import { setText } from './dom.js';
import { connectGestures } from './timeline-gestures.js';
import { paint } from './timeline-paint.js';

const SPAN_MIN_MS = 30_000;
const SPAN_MAX_MS = 40 * 86_400_000;
/** The playhead of a view that follows it stays left of this share of the width. */
const FOLLOW_AT = 0.82;
/** A view may reach this share of its span into the future. */
const FUTURE = 0.9;

/** Events: `seek` (detail: wall time), `select`, `view`. */
export class Timeline extends EventTarget {
  constructor(canvas, tip, coverage) {
    super();
    this.canvas = canvas;
    this.tip = tip;
    this.coverage = coverage;
    this.view = { from: serverNow() - 3600_000 * FOLLOW_AT, to: serverNow() + 3600_000 * (1 - FOLLOW_AT) };
    this.playhead = null;
    this.selection = null;
    this.hover = null;
    this.follow = true;
    coverage.addEventListener('change', () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
    connectGestures(this);
    setInterval(() => this.#beat(), 1000);
  }

  get span() {
    return this.view.to - this.view.from;
  }

  timeAt(x) {
    return this.view.from + (x / this.canvas.clientWidth) * this.span;
  }

  xOf(time) {
    return ((time - this.view.from) / this.span) * this.canvas.clientWidth;
  }

  /** Shows `span` milliseconds with `at` at the share `anchor` of the width. */
  zoom(span, at, anchor = 0.5) {
    const width = Math.min(SPAN_MAX_MS, Math.max(SPAN_MIN_MS, span));
    this.#show(at - width * anchor, width);
  }

  /** A zoom that keeps the playhead where it is, or the middle if it is out of view. */
  zoomTo(span) {
    const inView = this.playhead !== null && this.playhead >= this.view.from && this.playhead <= this.view.to;
    if (inView) this.zoom(span, this.playhead, (this.playhead - this.view.from) / this.span);
    else this.zoom(span, (this.view.from + this.view.to) / 2);
  }

  pan(ms) {
    this.follow = false;
    this.#show(this.view.from + ms, this.span);
  }

  /** Brings a time into view, in the middle if it was outside. */
  reveal(time) {
    this.follow = true;
    if (time < this.view.from || time > this.view.to) this.zoom(this.span, time);
  }

  setPlayhead(time) {
    if (time === this.playhead) return;
    this.playhead = time;
    if (time !== null && this.follow && !this.dragging) {
      const limit = this.view.from + this.span * FOLLOW_AT;
      if (time > limit) this.#show(this.view.from + time - limit, this.span);
      else if (time < this.view.from) this.zoom(this.span, time);
    }
    if (time !== null) {
      this.canvas.setAttribute('aria-valuenow', String(Math.round(time / 1000)));
      this.canvas.setAttribute('aria-valuetext', `${day(time)}, ${seconds(time)} ${zoneName(time)}`);
    }
    this.draw();
  }

  select(from, to) {
    this.selection = from === null && to === null ? null : { from, to };
    if (from !== null && to !== null && from > to) this.selection = { from: to, to: from };
    this.dispatchEvent(new Event('select'));
    this.draw();
  }

  seek(time) {
    this.follow = true;
    this.dispatchEvent(new CustomEvent('seek', { detail: time }));
  }

  /** Shows at `x` what is there, or hides the tip for null. */
  point(x) {
    this.hover = x;
    this.tip.hidden = x === null;
    if (x !== null) {
      setText(this.tip, this.#describe(this.timeAt(x)));
      const half = this.tip.offsetWidth / 2;
      this.tip.style.left = `${Math.min(Math.max(x, half), this.canvas.clientWidth - half)}px`;
    }
    this.draw();
  }

  /** After a change that every text shows, such as the time zone. */
  redraw() {
    this.dispatchEvent(new Event('view'));
    this.draw();
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      paint(this.canvas, this);
    });
  }

  #describe(time) {
    const slack = (3 * this.span) / this.canvas.clientWidth;
    const where = `${shortDay(time)} ${this.span < 1_800_000 ? exact(time).slice(0, -2) : seconds(time)}`;
    const gap = this.coverage.gapAt(time) ?? this.coverage.gapAt(time, slack);
    if (gap) return `${where}\nGap of ${duration(gap.to - gap.from)}${gap.open ? ' so far' : ''}: ${cause(gap.cause)}`;
    const run = this.coverage.runAt(time);
    if (run) return [where, `Recorded, ${tierWord(run.tier)}`, ...this.#marks(time)].join('\n');
    return time > serverNow() ? `${where}\nNot yet` : `${where}\nNothing recorded`;
  }

  /** What else is to say of a recorded time. */
  #marks(time) {
    const restoring = this.coverage.restoringAt(time);
    const ready = restoring?.readyAt ? `, ready ${shortDay(restoring.readyAt)} ${seconds(restoring.readyAt)}` : '';
    const holds = this.coverage.holdsAt(time).map(({ reason }) => `Held: ${reason || 'no reason given'}`);
    return [...(restoring ? [`Being restored${ready}`] : []), ...holds];
  }

  #show(from, span) {
    const latest = serverNow() + span * FUTURE;
    const start = Math.min(from, latest - span);
    this.view = { from: start, to: start + span };
    this.dispatchEvent(new Event('view'));
    this.draw();
  }

  #beat() {
    this.coverage.want(this.view);
    this.draw();
  }
}

