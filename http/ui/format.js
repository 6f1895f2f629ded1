// Times, sizes and causes in words. Times are milliseconds since 1970 (UTC) everywhere in this page.

const zones = { UTC: 'UTC', local: undefined };
let zone = localStorage.getItem('tierline.zone') === 'UTC' ? 'UTC' : 'local';
const formatters = new Map();

/** `'UTC'` or `'local'`. */
export function currentZone() {
  return zone;
}

export function setZone(next) {
  zone = next;
  localStorage.setItem('tierline.zone', next);
  formatters.clear();
}

/** The zone as people write it: `UTC`, `GMT+2`, `CET`. */
export function zoneName(time = Date.now()) {
  if (zone === 'UTC') return 'UTC';
  return formatter('zone', { timeZoneName: 'short' }).formatToParts(time)
    .find((part) => part.type === 'timeZoneName').value;
}

function formatter(name, options) {
  if (!formatters.has(name)) {
    formatters.set(name, new Intl.DateTimeFormat('en-GB', { hourCycle: 'h23', timeZone: zones[zone], ...options }));
  }
  return formatters.get(name);
}

const hm = { hour: '2-digit', minute: '2-digit' };
const hms = { ...hm, second: '2-digit' };

/** `14:05` */
export const minutes = (time) => formatter('hm', hm).format(time);
/** `14:05:09` */
export const seconds = (time) => formatter('hms', hms).format(time);
/** `14:05:09.250` */
export const exact = (time) => formatter('exact', { ...hms, fractionalSecondDigits: 3 }).format(time);
/** `Fri 20 Nov 2026` */
export const day = (time) =>
  formatter('day', { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' }).format(time).replace(',', '');
/** `20 Nov` */
export const shortDay = (time) => formatter('short', { day: 'numeric', month: 'short' }).format(time);

/** What an `<input type=date>` takes: `2026-11-20` in the shown zone. */
export function dateField(time) {
  const shifted = new Date(time + zoneOffset(time));
  return shifted.toISOString().slice(0, 10);
}

/** The first instant of a date field's day in the shown zone. */
export function dayStart(field) {
  return zone === 'UTC' ? Date.parse(`${field}T00:00:00Z`) : new Date(`${field}T00:00:00`).getTime();
}

/** How far the shown zone's clocks are ahead of UTC at `time`, in milliseconds. */
export function zoneOffset(time) {
  return zone === 'UTC' ? 0 : -new Date(time).getTimezoneOffset() * 60_000;
}

/** RFC 3339 text to milliseconds; `null` stays `null`. */
export function parseTime(text) {
  if (text === null || text === undefined) return null;
  const time = Date.parse(text);
  return Number.isNaN(time) ? null : time;
}

/** Milliseconds to RFC 3339 UTC, as the API takes it. */
export const rfc3339 = (time) => new Date(time).toISOString();

/** `850 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h` */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${trim(ms / 1000)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return join(Math.floor(s / 60), 'min', s % 60, 's');
  const m = Math.round(s / 60);
  if (m < 1440) return join(Math.floor(m / 60), 'h', m % 60, 'min');
  const h = Math.round(m / 60);
  return join(Math.floor(h / 24), 'd', h % 24, 'h');
}

/** An age for a list that is redrawn all the time: `0.8 s`, `12.4 s`, then as `duration`. */
export const age = (ms) => (ms < 59_950 ? `${(ms / 1000).toFixed(1)} s` : duration(ms));

const trim = (value) => value.toFixed(1).replace(/\.0$/, '');
const join = (a, unitA, b, unitB) => (b ? `${a} ${unitA} ${b} ${unitB}` : `${a} ${unitA}`);

/** `3.9 Mbit/s` */
export function bitrate(bps) {
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1e3)} kbit/s`;
}

/** `31.4 MB` */
export function bytes(count) {
  for (const [unit, size] of [['PB', 1e15], ['TB', 1e12], ['GB', 1e9], ['MB', 1e6], ['kB', 1e3]]) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return `${count} B`;
}

/** `1 gap`, `2 gaps` */
export const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

const CAUSES = {
  unreachable: 'camera unreachable',
  refused: 'camera refused the session',
  no_data: 'no data from the camera',
  unsupported: 'nothing that can be recorded',
  overload: 'service could not keep up',
  clock_step: 'clock was set forward',
  disabled: 'switched off',
  retention: 'deleted by a retention rule',
  lost: 'recorded, but not readable any more',
};

const TIERS = { hot: 'on the disk', warm: 'on the warm tier', cold: 'on the cold tier' };

/** Where footage lies, in words. */
export const tierWord = (tier) => TIERS[tier] ?? (tier ? `on ${tier}` : 'on the disk');

/** Days for a table: `12 min`, `9 h`, `4.2 d`, `31 d`; without end for null. */
export function days(count) {
  if (count === null || count === undefined) return 'without end';
  if (count < 1 / 12) return `${Math.round(count * 1440)} min`;
  if (count < 1) return `${Math.round(count * 24)} h`;
  return count < 10 ? `${trim(count)} d` : `${Math.round(count)} d`;
}

/** Gaps that somebody wanted: drawn calmly. */
export const WANTED_CAUSES = new Set(['disabled', 'retention', 'not_imported']);

/** A gap's cause in words; one that this page does not know is shown as the API spells it. */
export const cause = (code) => CAUSES[code] ?? (code ? String(code).replaceAll(/[_-]/g, ' ') : 'cause unknown');
