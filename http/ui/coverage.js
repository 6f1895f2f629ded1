// What is recorded and missing of one stream: fetched for a span with some margin, kept until the view leaves it.

import { json, paths, serverNow } from './api.js';
import { parseTime, rfc3339 } from './format.js';

/** While the view touches the present, it is asked for again this often. */
const REFRESH_MS = 4000;
const MARGIN = 0.75;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/** Events: `change`, `problem` (detail: the problem, or null once answers come again). */
export class Coverage extends EventTarget {
  constructor() {
    super();
    this.reset(null, null);
  }

  /** Turns to another camera and stream; `stream` may be null for the server's choice. */
  reset(camera, stream) {
    this.abort?.abort();
    Object.assign(this, {
      camera, stream, span: null, loadedAt: 0, runs: [], gaps: [], holds: [], restoring: [], activity: [], busy: false,
    });
    this.dispatchEvent(new Event('change'));
  }

  /** Makes sure that `view` is known and fresh; cheap to call often. */
  async want(view) {
    if (!this.camera || this.busy) return;
    const inside = this.span && view.from >= this.span.from && view.to <= this.span.to;
    const present = view.to >= serverNow() - 60_000;
    const old = performance.now() - this.loadedAt > REFRESH_MS;
    const coarse = this.span && this.span.to - this.span.from > 8 * (view.to - view.from);
    if (inside && !coarse && !(present && old)) return;
    const margin = (view.to - view.from) * MARGIN;
    await this.#load({ from: Math.max(0, view.from - margin), to: view.to + margin });
  }

  async #load(span) {
    this.busy = true;
    const abort = new AbortController();
    this.abort = abort;
    const query = { from: rfc3339(span.from), to: rfc3339(span.to) };
    if (this.stream) query.stream = this.stream;
    let problem = null;
    try {
      const answer = await json(paths.timeline(this.camera, query), { signal: abort.signal });
      this.runs = spans(answer.runs);
      this.gaps = spans(answer.gaps).sort((a, b) => a.from - b.from);
      this.holds = spans(answer.holds).sort((a, b) => a.from - b.from);
      this.restoring = spans(answer.restoring).map((row) => ({ ...row, readyAt: parseTime(row.ready_at) }));
      this.activity = levels(answer.activity);
      this.span = span;
    } catch (error) {
      if (abort.signal.aborted) return;
      problem = error;
      this.span = span;
    }
    this.busy = false;
    this.loadedAt = performance.now();
    this.dispatchEvent(new CustomEvent('problem', { detail: problem }));
    this.dispatchEvent(new Event('change'));
  }

  runAt(time) {
    return this.runs.find(({ from, to }) => time >= from && time < to) ?? null;
  }

  gapAt(time, slack = 0) {
    return this.gaps.find(({ from, to }) => time >= from - slack && time < to + slack) ?? null;
  }

  /** Every hold on a time: several may overlap. */
  holdsAt(time) {
    return this.holds.filter(({ from, to }) => time >= from && time < to);
  }

  restoringAt(time) {
    return this.restoring.find(({ from, to }) => time >= from && time < to) ?? null;
  }

  /** Asks again at once, after a change that the answer shows. */
  renew(view) {
    this.loadedAt = 0;
    this.span = null;
    this.want(view);
  }

  /** The nearest recorded time at or before `time`, or `time` itself where nothing is known. */
  recordedBefore(time) {
    if (this.runAt(time)) return time;
    const before = this.runs.filter(({ to }) => to <= time);
    return before.length ? Math.max(...before.map(({ to }) => to)) - 1000 : time;
  }

  /** Whether all of a span has been asked for, so that what is not listed is not missing. */
  knows({ from, to }) {
    return Boolean(this.span) && from >= this.span.from && to <= this.span.to;
  }

  /** Gaps that touch a span, and how much of it they take in milliseconds. */
  missing({ from, to }) {
    const gaps = this.gaps.filter((gap) => gap.to > from && gap.from < to);
    const ms = gaps.reduce((sum, gap) => sum + Math.min(to, gap.to) - Math.max(from, gap.from), 0);
    return { gaps, ms };
  }
}

/** A gap that still lasts is `open`; how far it is known by now is its end. */
function spans(rows) {
  return (rows ?? []).map((row) => {
    const to = parseTime(row.to);
    return { ...row, from: parseTime(row.from), to: row.open ? Math.max(to, serverNow()) : to, open: Boolean(row.open) };
  });
}

/** Activity comes by the minute, for long ranges by the hour; the entries themselves say which. */
function levels(rows) {
  const entries = (rows ?? []).map(({ at, level }) => ({ at: parseTime(at), level }));
  const steps = entries.slice(1).map(({ at }, i) => at - entries[i].at);
  const ms = steps.length && steps.every((step) => step >= HOUR_MS) ? HOUR_MS : MINUTE_MS;
  return entries.map((entry) => ({ ...entry, ms }));
}
