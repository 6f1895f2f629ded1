// Messages above the page: problems stay until closed or until what they speak of is over, news goes by itself.

import { byId, make } from './dom.js';

const NEWS_MS = 8000;
const shown = new Map();

/** Shows a problem's title and detail under a topic; a newer one of the same topic replaces it. */
export function showProblem(topic, problem, actions = []) {
  show(topic, 'problem', problem.title || 'Something went wrong', problem.detail || '', actions);
}

/** Shows a short message that goes away by itself. */
export function showNews(topic, title, detail = '') {
  const entry = show(topic, 'news', title, detail, []);
  setTimeout(() => shown.get(topic) === entry && clearNotice(topic), NEWS_MS);
}

export function clearNotice(topic) {
  shown.get(topic)?.element.remove();
  shown.delete(topic);
}

function show(topic, kind, title, detail, actions) {
  const text = `${kind}\n${title}\n${detail}\n${actions.map((action) => action.label).join('\n')}`;
  const old = shown.get(topic);
  if (old?.text === text) return old;
  const element = make('div', { class: `notice ${kind}` },
    make('div', { class: 'notice-text' }, make('strong', {}, title), detail ? make('span', {}, detail) : null),
    ...actions.map(({ label, act }) => make('button', {
      type: 'button',
      onclick: () => { clearNotice(topic); act(); },
    }, label)),
    make('button', { type: 'button', class: 'close', 'aria-label': 'Close', onclick: () => clearNotice(topic) }, '×'));
  if (old) old.element.replaceWith(element);
  else byId('notices').append(element);
  const entry = { element, text };
  shown.set(topic, entry);
  return entry;
}
