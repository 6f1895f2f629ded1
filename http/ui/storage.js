// The forecast as the service reckons it: when the disk is full, how long footage stays, which promise breaks, what goes
// next. A key that may not see all cameras gets none, and the panel stays away.

import { json, paths } from './api.js';
import { byId, make, setText } from './dom.js';
import { bitrate, bytes, days, minutes, parseTime, shortDay } from './format.js';

const POLL_MS = 30_000;
const NEXT_SHOWN = 6;
const ENDS = { age: 'its age', quota: 'its quota', space: 'space on the disk' };

export class Storage {
  constructor(camera) {
    this.camera = camera;
    this.forecast = null;
  }

  start() {
    const turn = async () => {
      if (!document.hidden) await this.refresh();
      setTimeout(turn, POLL_MS);
    };
    turn();
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.refresh(); });
  }

  async refresh() {
    try {
      this.forecast = await json(paths.forecast);
    } catch (problem) {
      // Without an answer the last one stays for a while; without the right there is none.
      if (problem.status === 401 || problem.status === 403 || problem.status === 404) this.forecast = null;
    }
    this.show();
  }

  show() {
    const panel = byId('storage');
    panel.hidden = !this.forecast;
    if (!this.forecast) return;
    const { complete, disk, tiers, rules, streams, next } = this.forecast;
    const ours = streams.filter(({ camera }) => camera === this.camera());
    // What the service saw a minute ago, when nothing was recorded yet, or all of it not counted, tells nothing of the future.
    const early = disk.days_to_full === null && (!complete || streams.every(({ days_held: held }) => held === null));
    this.#line(disk, rules, ours, early);
    meter(disk);
    byId('storage-facts').replaceChildren(...facts(disk, tiers, ours, early));
    byId('storage-rules').replaceChildren(...rules.map((rule) => ruleRow(rule, early)));
    byId('storage-next-title').hidden = !next.length;
    byId('storage-next').replaceChildren(...next.slice(0, NEXT_SHOWN).map(goingRow));
  }

  #line(disk, rules, ours, early) {
    const line = byId('storage-line');
    const risky = rules.filter(({ at_risk: atRisk }) => atRisk);
    line.classList.toggle('bad', risky.length > 0);
    if (risky.length) {
      const soonest = Math.min(...risky.map(({ risks }) => risks[0].days));
      setText(line, `Retention at risk: rule ${risky.map(({ rule }) => rule).join(', ')} in ${days(soonest)}`);
      return;
    }
    const full = early ? 'no forecast yet'
      : disk.days_to_full === null ? 'the disk never fills' : `the disk is full in ${days(disk.days_to_full)}`;
    const held = ours.find(({ days_held: count }) => count !== null);
    setText(line, held ? `${full}, this camera holds ${days(held.days_held)}` : full);
  }
}

function meter(disk) {
  const share = (part) => `${(100 * part) / Math.max(1, disk.total_bytes)}%`;
  const box = byId('storage-meter');
  box.querySelector('.footage').style.width = share(disk.footage_bytes);
  box.querySelector('.other').style.width = share(disk.other_bytes);
  box.setAttribute('aria-label', `Disk of ${bytes(disk.total_bytes)}: ${bytes(disk.footage_bytes)} of footage, `
    + `${bytes(disk.other_bytes)} of other things, ${bytes(disk.free_bytes)} free`);
}

const fact = (label, value) => make('li', {}, `${label} `, make('b', {}, value));

function facts(disk, tiers, ours, early) {
  const rows = [
    fact('Disk', `${bytes(disk.free_bytes)} free of ${bytes(disk.total_bytes)}`),
    fact('Footage on it', bytes(disk.footage_bytes)),
    fact('Recorded', bitrate(disk.bitrate_bps)),
    fact('Full', early ? 'not known yet' : disk.full_at === null ? 'never at this rate' : when(disk.full_at)),
  ];
  for (const { tier, bytes: held, capacity_bytes: capacity, full_at: full } of tiers) {
    const room = capacity === null ? '' : ` of ${bytes(capacity)}${full === null ? '' : `, full ${when(full)}`}`;
    rows.push(fact(tier === 'warm' ? 'Warm tier' : 'Cold tier', `${bytes(held)}${room}`));
  }
  for (const { stream, days_held: held, days_will_hold: will, ends, recorded } of ours) {
    const later = recorded ? `, will hold ${days(will)}${ends ? ` (ends by ${ENDS[ends] ?? ends})` : ''}` : '';
    rows.push(fact(`This camera, ${stream}:`, held === null ? 'nothing yet' : `holds ${days(held)}${later}`));
  }
  return rows;
}

function ruleRow({ rule, cameras, streams, min_days: min, days_will_hold: will, risks, at_risk: atRisk, governs }, early) {
  const of = [cameras.join(', '), streams.join() === '*' ? '' : ` (${streams.join(', ')})`].join('');
  const outlook = risks.length
    ? risks.map(({ days: left, why }) => `in ${days(left)}: ${why}`).join('; ')
    : min === null ? 'no promise' : early ? 'not known yet' : 'kept at this rate';
  return make('tr', {},
    make('th', { scope: 'row' }, rule === null ? 'none' : String(rule)),
    make('td', {}, rule === null ? `${governs} streams that no rule matches` : of),
    make('td', {}, min === null ? '–' : days(min)),
    make('td', {}, early ? '–' : days(will)),
    make('td', { class: risks.length ? 'bad' : '' }, `${atRisk ? '⚠ ' : ''}${outlook}`));
}

const goingRow = ({ camera, stream, until, bytes: size, at, reason }) => make('li', {},
  `${when(at)}: ${camera}/${stream} up to ${when(until)}, ${bytes(size)}, for ${ENDS[reason] ?? reason}`);

const when = (text) => `${shortDay(parseTime(text))} ${minutes(parseTime(text))}`;
