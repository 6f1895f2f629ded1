// Legal holds: one is put on the selection, those in view are listed and can be released. Both ask for a reason.

import { json, paths, request } from './api.js';
import { byId, make, setText } from './dom.js';
import { currentZone, duration, exact, rfc3339, shortDay } from './format.js';
import { showNews, showProblem } from './notices.js';

const LISTED_MAX = 100;

export function connectHolds({ timeline, coverage, camera, goTo }) {
  // A button of its own kind: Enter in the field means the other one.
  byId('reason-cancel').addEventListener('click', () => byId('reason').close());
  const button = byId('hold');
  const selected = () => {
    const { from = null, to = null } = timeline.selection ?? {};
    return from !== null && to !== null && to > from ? { from, to } : null;
  };
  const changed = () => coverage.renew(timeline.view);
  timeline.addEventListener('select', () => { button.disabled = !selected(); });
  button.addEventListener('click', () => put(camera(), selected(), changed));

  let shown = null;
  const show = () => {
    const { from, to } = timeline.view;
    const holds = coverage.holds.filter((hold) => hold.to > from && hold.from < to);
    const shape = JSON.stringify(holds) + currentZone();
    if (shape === shown) return;
    shown = shape;
    byId('holds').hidden = !holds.length;
    setText(byId('holds-title'), `Holds in view (${holds.length})`);
    byId('hold-list').replaceChildren(...holds.slice(0, LISTED_MAX).map((hold) => row(hold, goTo, changed)));
  };
  coverage.addEventListener('change', show);
  timeline.addEventListener('view', show);
}

const span = ({ from, to }) => `${shortDay(from)} ${exact(from)} – ${shortDay(to)} ${exact(to)}`;

const row = (hold, goTo, changed) => make('li', {},
  make('button', { type: 'button', class: 'quiet', title: 'Play from here', onclick: () => goTo(hold.from) }, span(hold)),
  make('span', { class: 'reason' }, ` ${duration(hold.to - hold.from)}, ${hold.reason || 'no reason given'} `),
  hold.id ? make('button', {
    type: 'button', 'aria-label': `Release the hold: ${hold.reason ?? ''}`, onclick: () => release(hold, changed),
  }, 'Release') : null);

async function put(camera, selection, changed) {
  if (!camera || !selection) return;
  const reason = await askReason('Hold this footage?',
    `${span(selection)}. It stays until the hold is released, whatever retention rules say.`, 'Hold');
  if (reason === null) return;
  const body = { camera, from: rfc3339(selection.from), to: rfc3339(selection.to), reason };
  try {
    const hold = await json(paths.holds, { method: 'POST', body });
    const gone = hold?.already_gone?.length ? 'Part of it had been deleted before.' : '';
    showNews('hold', 'The footage is held', gone);
    changed();
  } catch (problem) {
    showProblem('hold', problem);
  }
}

async function release(hold, changed) {
  const reason = await askReason('Release this hold?',
    `${span(hold)}: ${hold.reason ?? ''}. What its retention rule does not keep may be deleted at once.`, 'Release');
  if (reason === null) return;
  try {
    await request(paths.hold(hold.id, { reason }), { method: 'DELETE' });
    showNews('hold', 'The hold was released');
    changed();
  } catch (problem) {
    showProblem('hold', problem);
  }
}

/** The reason that was typed, or `null` when it was cancelled. */
function askReason(title, text, verb) {
  const dialog = byId('reason');
  const field = dialog.querySelector('input');
  setText(byId('reason-title'), title);
  setText(byId('reason-text'), text);
  setText(byId('reason-ok'), verb);
  field.value = '';
  dialog.returnValue = '';
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    const closed = () => resolve(dialog.returnValue === 'ok' ? field.value.trim() || null : null);
    dialog.addEventListener('close', closed, { once: true });
  });
}
