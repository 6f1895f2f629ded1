// Opens the product's page in Chromium, plays a camera, and prints one JSON object: samples, errors and a verdict.
// Exit 0: pictures played as asked; 1: they did not; 2: wrong arguments.

import { parseArgs } from 'node:util';
import { withPage } from './chromium.mjs';
import { verdict } from './verdict.mjs';

const USAGE = `usage: node play.mjs --base URL --camera ID [options]
  --mode live|past   what to play (live)
  --from TIME        past: where to begin, RFC 3339
  --across TIME      past: a time within a gap; pictures from before and after it must be seen
  --seconds N        how long to watch once the first picture is there (10)
  --wait N           how long to wait for the first picture (30)
  --rate R           playback speed (1)
  --stall N          the most seconds for which the picture may stand still once it moves
  --lag N            live: the most seconds that the last picture may be behind now (30)
  --key KEY          API key, typed into the page when it asks
  --screenshot FILE  a PNG of the page at the end
  --viewport WxH     size of the window (1280x800)`;
const SAMPLE_MS = 500;

const options = readOptions();
const result = await withPage({ viewport: options.viewport }, watch).catch((error) => ({
  base: options.base, camera: options.camera, mode: options.mode, samples: [], errors: [],
  verdict: { ok: false, findings: [`could not run: ${error.message}`] },
}));
console.log(JSON.stringify(result));
process.exitCode = result.verdict.ok ? 0 : 1;

async function watch(page) {
  const console_errors = [];
  page.on('pageerror', (error) => console_errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && console_errors.push(message.text()));
  const wholes = [];
  page.on('response', (response) => {
    if (response.status() === 200 && response.request().headers().range) wholes.push(response.url());
  });
  await page.goto(address());
  await enterKey(page);
  const selected = (camera) => window.tierline?.cameras.selected === camera;
  await page.waitForFunction(selected, options.camera, { timeout: 15_000 }).catch(async () => {
    throw new Error(`the page does not show camera ${options.camera}; it says: ${await page.locator('body').innerText()}`);
  });
  if (options.rate !== '1') await page.selectOption('#rate', options.rate);

  const began = Date.now();
  const samples = [];
  let firstPicture = null;
  for (;;) {
    const sample = { at_ms: Date.now() - began, ...await page.evaluate(readPlayer) };
    samples.push(sample);
    if (firstPicture === null && sample.frames > 0 && sample.current_time > 0) firstPicture = sample.at_ms;
    const limit = firstPicture === null ? options.wait : firstPicture / 1000 + options.seconds;
    if (sample.at_ms >= limit * 1000) break;
    await page.waitForTimeout(SAMPLE_MS);
  }
  const now = Date.now();
  const errors = await page.evaluate(() => window.tierline.player.errors);
  const shown = await page.evaluate(() => ({
    clock: document.querySelector('#clock').textContent,
    summary: document.querySelector('#summary').textContent,
    message: document.querySelector('#veil').innerText,
  }));
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  return {
    base: options.base, camera: options.camera, mode: options.mode,
    from: options.from ?? null, across: options.across ?? null,
    browser: page.context().browser()?.version() ?? '', page: shown, console_errors, errors,
    samples: samples.map((sample) => ({ ...sample, playing_date: iso(sample.playing_date) })),
    verdict: verdict({
      samples, errors, wholes,
      across: options.across ? Date.parse(options.across) : null,
      stallMaxMs: options.stall ? options.stall * 1000 : null,
      ...(options.mode === 'live' ? { now, lagMaxMs: options.lag * 1000 } : {}),
    }),
  };
}

/** Runs in the page. */
function readPlayer() {
  const { player } = window.tierline;
  const { video, hls } = player;
  return {
    current_time: video.currentTime,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    dropped: video.getVideoPlaybackQuality().droppedVideoFrames,
    playing_date: hls?.playingDate?.getTime() ?? null,
    ready_state: video.readyState,
    width: video.videoWidth,
    height: video.videoHeight,
    paused: video.paused,
  };
}

function address() {
  const fragment = new URLSearchParams({ camera: options.camera });
  if (options.mode === 'past') fragment.set('at', options.from);
  return `${options.base.replace(/\/$/, '')}/#${fragment}`;
}

async function enterKey(page) {
  if (!options.key) return;
  await page.locator('#key').fill(options.key, { timeout: 15_000 });
  await page.locator('#key-form button').click();
}

function iso(time) {
  return time === null ? null : new Date(time).toISOString();
}

function readOptions() {
  const text = { type: 'string' };
  const names = [
    'base', 'camera', 'mode', 'from', 'across', 'seconds', 'wait', 'rate', 'lag', 'stall', 'key', 'screenshot', 'viewport',
  ];
  let values;
  try {
    ({ values } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, text])) }));
  } catch (error) {
    usage(error.message);
  }
  const { base, camera, mode = 'live', from, across, viewport = '1280x800', rate = '1' } = values;
  const number = (name, fallback) => Number(values[name] ?? fallback);
  const [width, height] = viewport.split('x').map(Number);
  if (!base || !camera) usage('--base and --camera are needed');
  if (mode !== 'live' && mode !== 'past') usage('--mode is live or past');
  if (mode === 'past' && Number.isNaN(Date.parse(from))) usage('--mode past needs --from TIME');
  if (across && Number.isNaN(Date.parse(across))) usage('--across is not a time');
  const numbers = { seconds: number('seconds', 10), wait: number('wait', 30), lag: number('lag', 30) };
  if (values.stall !== undefined) numbers.stall = Number(values.stall);
  if ([width, height, ...Object.values(numbers)].some((value) => !(value > 0))) usage('a number is wrong');
  return { ...values, mode, rate, viewport: { width, height }, ...numbers };
}

function usage(message) {
  console.error(`${message}\n${USAGE}`);
  process.exit(2);
}
