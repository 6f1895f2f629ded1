// Opens the product's page in Chromium, looks at times of a camera's timeline as a person does, puts a hold on a span, and
// prints what the page shows as one JSON object. Exit 0: it could be looked at; 1: it could not; 2: wrong arguments.

import { parseArgs } from 'node:util';
import { withPage } from './chromium.mjs';

const USAGE = `usage: node look.mjs --base URL --camera ID --at TIME [--at TIME]… [options]
  --at TIME          a time to look at, RFC 3339
  --hold FROM/TO     a span to hold before looking; both are among the times
  --reason TEXT      why (a test)
  --screenshot FILE  a PNG of the page at the end`;
/** Where the page loads what it shows again by itself. */
const SHOWN_MS = 20_000;
const BESIDE_MS = 1500;
/** From ten minutes to 75 seconds. */
const ZOOMS = 3;
/** Where runs are painted, and where holds are, as shares of the canvas' height. */
const BAND = [0.6, 0.82];
const HOLDS = [0.9, 0.93];

const options = readOptions();
try {
  console.log(JSON.stringify(await withPage({ viewport: { width: 1280, height: 1000 } }, look)));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

async function look(page) {
  const console_errors = [];
  page.on('pageerror', (error) => console_errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && console_errors.push(message.text()));
  // The playhead would cover what is looked at.
  const beside = options.at[options.at.length - 1] - BESIDE_MS;
  const fragment = new URLSearchParams({ camera: options.camera, at: new Date(beside).toISOString() });
  await page.goto(`${options.base.replace(/\/$/, '')}/#${fragment}`);
  await page.locator('[data-span="600000"]').click({ timeout: SHOWN_MS });
  // Close enough to point at seconds, and nothing moves.
  for (let i = 0; i < ZOOMS; i += 1) await page.locator('#track').press('+');
  await page.locator('#play[aria-label="Pause"]').click({ timeout: SHOWN_MS });
  const loaded = (times) => times.every((time) => window.tierline.coverage.runAt(time));
  await page.waitForFunction(loaded, options.at, { timeout: SHOWN_MS });
  if (options.hold) await hold(page);

  const times = [];
  for (const at of options.at) {
    // Where the pointer is, the canvas has another colour.
    await page.mouse.move(0, 0);
    await page.waitForFunction(() => window.tierline.timeline.hover === null && !window.tierline.timeline.frame);
    const { x, left, top, band } = await page.evaluate(placeOf, at);
    const colours = await page.evaluate(coloursAt, { x, band: BAND, hold: HOLDS });
    await page.mouse.move(left + x, top + band);
    times.push({ at: new Date(at).toISOString(), ...colours, tip: await page.locator('#tip').innerText() });
  }
  await page.locator('#storage > summary').click();
  const result = { times, ...await page.evaluate(readPage), console_errors };
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  return result;
}

/** Shift and drag over the span, then the button, then the reason: as the page tells people to. */
async function hold(page) {
  const [from, to] = await Promise.all(options.hold.map((time) => page.evaluate(placeOf, time)));
  await page.keyboard.down('Shift');
  await page.mouse.move(from.left + from.x, from.top + from.band);
  await page.mouse.down();
  await page.mouse.move(to.left + to.x, to.top + to.band, { steps: 5 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  await page.locator('#hold').click();
  await page.locator('#reason input').fill(options.reason);
  await page.locator('#reason-ok').click();
  await page.locator('#holds').waitFor({ state: 'visible', timeout: SHOWN_MS });
  await page.locator('#clear').click();
}

/** Runs in the page: where a time is on the canvas, and the canvas in the window. */
function placeOf(time) {
  const { timeline } = window.tierline;
  const { left, top, height } = timeline.canvas.getBoundingClientRect();
  return { x: timeline.xOf(time), left, top, band: height * 0.7 };
}

/** Runs in the page: the colour that most rows have at `x`, for each of some bands. */
function coloursAt({ x, ...bands }) {
  const { canvas } = window.tierline.timeline;
  const scale = canvas.width / canvas.clientWidth;
  const most = ([from, to]) => {
    const [top, end] = [from, to].map((share) => Math.round(share * canvas.height));
    const { data } = canvas.getContext('2d').getImageData(Math.round(x * scale), top, 1, end - top);
    const rows = new Map();
    for (let i = 0; i < data.length; i += 4) {
      const colour = `#${[...data.slice(i, i + 3)].map((part) => part.toString(16).padStart(2, '0')).join('')}`;
      rows.set(colour, (rows.get(colour) ?? 0) + 1);
    }
    return [...rows].sort((a, b) => b[1] - a[1])[0][0];
  };
  return Object.fromEntries(Object.entries(bands).map(([name, band]) => [name, most(band)]));
}

/** Runs in the page. */
function readPage() {
  const text = (id) => document.getElementById(id).innerText;
  return {
    legend: [...document.querySelectorAll('.legend li')].filter((item) => !item.hidden).map((item) => item.innerText),
    holds: [...document.querySelectorAll('#hold-list li')].map((item) => item.textContent),
    storage: { line: text('storage-line'), facts: text('storage-facts'), rules: text('storage-rules'), next: text('storage-next') },
  };
}

function readOptions() {
  const text = { type: 'string' };
  let values;
  try {
    ({ values } = parseArgs({
      options: { base: text, camera: text, at: { ...text, multiple: true }, hold: text, reason: text, screenshot: text },
    }));
  } catch (error) {
    usage(error.message);
  }
  const { base, camera, reason = 'a test' } = values;
  const at = (values.at ?? []).map((time) => Date.parse(time));
  const hold = values.hold?.split('/').map((time) => Date.parse(time));
  if (!base || !camera || !at.length) usage('--base, --camera and --at are needed');
  if ([...at, ...hold ?? []].some(Number.isNaN) || (hold && hold.length !== 2)) usage('a time is wrong');
  return { ...values, at, hold, reason };
}

function usage(message) {
  console.error(`${message}\n${USAGE}`);
  process.exit(2);
}
