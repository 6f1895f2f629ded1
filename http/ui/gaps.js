// The gaps in view as a list: for fingers, keyboards and screen readers what hovering is for a mouse.

import { serverNow } from './api.js';
import { byId, make, setText } from './dom.js';
import { cause, currentZone, duration, exact, shortDay, WANTED_CAUSES } from './format.js';

const LISTED_MAX = 100;
/** A jump to a gap begins this long before it. */
const LEAD_MS = 5000;

export function connectGapList({ timeline, coverage, goTo }) {
  let shown = null;
  const show = () => {
    const { gaps } = coverage.missing({ from: timeline.view.from, to: Math.min(timeline.view.to, serverNow()) });
    const shape = gaps.map(({ from, to }) => `${from}-${to}`).join() + currentZone();
    if (shape === shown) return;
    shown = shape;
    byId('gaps').hidden = !gaps.length;
    setText(byId('gaps-title'), `Gaps in view (${gaps.length})`);
    byId('gap-list').replaceChildren(...gaps.slice(-LISTED_MAX).reverse().map((gap) => row(gap, goTo)));
  };
  coverage.addEventListener('change', () => {
    show();
    showLegend(coverage);
  });
  timeline.addEventListener('view', show);
}

const row = (gap, goTo) => make('li', {},
  make('button', {
    type: 'button', class: 'quiet', title: 'Play up to this gap', onclick: () => goTo(gap.from - LEAD_MS),
  }, `${shortDay(gap.from)} ${exact(gap.from)} – ${gap.open ? 'now' : exact(gap.to)}`),
  ` ${duration(gap.to - gap.from)}${gap.open ? ' so far' : ''}, ${cause(gap.cause)}`);

/** The legend names only what is there. */
function showLegend(coverage) {
  const tiers = new Set(coverage.runs.map(({ tier }) => tier));
  for (const tier of ['warm', 'cold']) document.querySelector(`.k-${tier}`).hidden = !tiers.has(tier);
  const wanted = (gap) => WANTED_CAUSES.has(gap.cause);
  document.querySelector('.k-meant').hidden = !coverage.gaps.some(wanted);
  document.querySelector('.k-gap').hidden = coverage.gaps.length > 0 && coverage.gaps.every(wanted);
  document.querySelector('.k-hold').hidden = !coverage.holds.length;
  document.querySelector('.k-restoring').hidden = !coverage.restoring.length;
}
