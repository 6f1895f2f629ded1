// Shorthand for elements. Text always goes in as text, so names from cameras and servers cannot become markup.

/** The element with this id; a missing one is a mistake in index.html and fails at once. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element #${id}`);
  return element;
}

/** A new element with attributes (`class`, `title`, ...), listeners (`onclick`) and children (nodes or text). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets text only where it differs, so that screen readers and selections are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Points an icon button at another symbol of the sprite. */
export function setIcon(button, symbol) {
  button.querySelector('use').setAttribute('href', `#${symbol}`);
}
