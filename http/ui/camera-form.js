// Adding a camera and removing one.

import { json, paths, request } from './api.js';
import { byId, setText } from './dom.js';
import { showNews, showProblem } from './notices.js';

/** Opens and sends the form; `onAdded(id)` follows a success. */
export function connectAddForm(onAdded) {
  const form = byId('add-form');
  const opener = byId('add-open');
  const show = (open) => {
    form.hidden = !open;
    opener.setAttribute('aria-expanded', String(open));
    if (open) form.elements.id.focus();
    else opener.focus();
  };
  opener.addEventListener('click', () => show(form.hidden));
  form.querySelector('[data-cancel]').addEventListener('click', () => show(false));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const { id, name, url } = form.elements;
    const error = form.querySelector('.form-error');
    error.hidden = true;
    const camera = {
      id: id.value.trim(),
      name: name.value.trim() || id.value.trim(),
      streams: [{ name: 'main', url: url.value.trim() }],
    };
    try {
      await json(paths.cameras, { method: 'POST', body: camera });
    } catch (problem) {
      setText(error, [problem.title, problem.detail].filter(Boolean).join(': '));
      error.hidden = false;
      return;
    }
    form.reset();
    show(false);
    showNews('camera', `${camera.name} was added`, 'It appears as recording once its first picture is stored.');
    onAdded(camera.id);
  });
}

/** Asks, removes, and calls `onRemoved()`. */
export async function removeCamera(camera, onRemoved) {
  const name = camera.name || camera.id;
  if (!await confirmed(`Remove ${name}?`, 'Recording of this camera stops at once and it leaves this list.')) return;
  try {
    await request(paths.camera(camera.id), { method: 'DELETE' });
    showNews('camera', `${name} was removed`);
    onRemoved();
  } catch (problem) {
    showProblem('camera', problem);
  }
}

function confirmed(title, text) {
  const dialog = byId('confirm');
  setText(byId('confirm-title'), title);
  setText(byId('confirm-text'), text);
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'ok'), { once: true });
  });
}
