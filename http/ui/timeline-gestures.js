// Pointer, wheel and keyboard on the timeline, turned into its verbs: seek, pan, zoom, select.

const CLICK_PX = 4;
const HANDLE_PX = 7;
const PINCH_MIN_PX = 20;
const WHEEL_ZOOM = 1.0016;
/** A finger leaves the tip on screen for this long. */
const TOUCH_TIP_MS = 2500;

export function connectGestures(timeline) {
  const { canvas } = timeline;
  const pointers = new Map();
  let drag = null;

  const at = (event) => event.clientX - canvas.getBoundingClientRect().left;

  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    drag = pointers.size === 2 ? pinchStart(timeline, pointers) : dragStart(timeline, event, at(event));
    timeline.dragging = true;
  });

  canvas.addEventListener('pointermove', (event) => {
    const x = at(event);
    if (!pointers.has(event.pointerId)) {
      timeline.point(x);
      canvas.style.cursor = handleAt(timeline, x) ? 'ew-resize' : 'pointer';
      return;
    }
    pointers.set(event.pointerId, x);
    if (drag?.kind === 'pinch') {
      if (pointers.size === 2) pinchMove(timeline, drag, pointers);
      return;
    }
    dragMove(timeline, drag, x);
  });

  const release = (event, click) => {
    if (!pointers.delete(event.pointerId)) return;
    if (pointers.size === 0) timeline.dragging = false;
    if (click && drag && !drag.moved && drag.kind === 'pan') timeline.seek(timeline.timeAt(at(event)));
    if (event.pointerType === 'touch') {
      timeline.point(at(event));
      setTimeout(() => timeline.point(null), TOUCH_TIP_MS);
    }
    drag = drag?.kind === 'pinch' && pointers.size ? drag : null;
  };
  canvas.addEventListener('pointerup', (event) => release(event, true));
  canvas.addEventListener('pointercancel', (event) => release(event, false));
  canvas.addEventListener('pointerleave', () => { if (!pointers.size) timeline.point(null); });

  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      timeline.pan((event.deltaX / canvas.clientWidth) * timeline.span);
      return;
    }
    const x = at(event);
    timeline.follow = false;
    timeline.zoom(timeline.span * WHEEL_ZOOM ** event.deltaY, timeline.timeAt(x), x / canvas.clientWidth);
    timeline.point(x);
  }, { passive: false });
}

function dragStart(timeline, event, x) {
  const edge = handleAt(timeline, x);
  if (edge) return { kind: 'select', fixed: timeline.selection[edge === 'from' ? 'to' : 'from'], x, moved: false };
  if (event.shiftKey) return { kind: 'select', fixed: timeline.timeAt(x), x, moved: false };
  return { kind: 'pan', x, last: x, moved: false };
}

function dragMove(timeline, drag, x) {
  if (!drag) return;
  if (!drag.moved && Math.abs(x - drag.x) < CLICK_PX) return;
  drag.moved = true;
  if (drag.kind === 'select') {
    timeline.select(drag.fixed, timeline.timeAt(x));
    timeline.point(x);
    return;
  }
  timeline.pan(((drag.last - x) / timeline.canvas.clientWidth) * timeline.span);
  drag.last = x;
  timeline.point(null);
}

/** Which end of the selection lies under `x`; none where it is so narrow that the ends would cover it. */
function handleAt(timeline, x) {
  const { selection } = timeline;
  if (!selection || selection.from === null || selection.to === null) return null;
  if (timeline.xOf(selection.to) - timeline.xOf(selection.from) < 3 * HANDLE_PX) return null;
  return ['from', 'to'].find((edge) => Math.abs(timeline.xOf(selection[edge]) - x) <= HANDLE_PX) ?? null;
}

function pinchStart(timeline, pointers) {
  const { distance, middle } = pinch(pointers);
  return { kind: 'pinch', distance, span: timeline.span, at: timeline.timeAt(middle), moved: true };
}

function pinchMove(timeline, start, pointers) {
  const { distance, middle } = pinch(pointers);
  timeline.follow = false;
  timeline.zoom((start.span * start.distance) / distance, start.at, middle / timeline.canvas.clientWidth);
}

function pinch(pointers) {
  const [a, b] = [...pointers.values()];
  return { distance: Math.max(PINCH_MIN_PX, Math.abs(a - b)), middle: (a + b) / 2 };
}
