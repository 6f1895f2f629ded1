import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verdict } from './verdict.mjs';

const T = Date.UTC(2026, 2, 1, 12);
const playing = (seconds, jump = 0) => Array.from({ length: seconds * 2 }, (_, i) => ({
  at_ms: i * 500, current_time: 1 + i / 2, frames: 1 + i * 12, playing_date: T + i * 500 + (i >= seconds ? jump : 0),
}));

test('steady playback passes', () => {
  assert.deepEqual(verdict({ samples: playing(5), errors: [] }).findings, []);
});

test('a fatal error fails even if pictures came', () => {
  const errors = [{ fatal: true, details: 'manifestLoadError', reason: '' }];
  assert.equal(verdict({ samples: playing(5), errors }).ok, false);
});

test('an error that is not fatal is only counted', () => {
  const result = verdict({ samples: playing(5), errors: [{ fatal: false, details: 'bufferStalledError' }] });
  assert.deepEqual([result.ok, result.errors_other], [true, 1]);
});

test('a picture that stands still fails', () => {
  const samples = playing(5).map((sample) => ({ ...sample, current_time: 3 }));
  assert.equal(verdict({ samples, errors: [] }).ok, false);
});

test('time that runs without decoded frames fails', () => {
  const samples = playing(5).map((sample) => ({ ...sample, frames: 0 }));
  assert.equal(verdict({ samples, errors: [] }).ok, false);
});

test('no samples at all fail', () => {
  assert.equal(verdict({ samples: [], errors: [] }).ok, false);
});

test('a gap counts as crossed only when pictures from both sides were seen in order', () => {
  const samples = playing(6, 30_000);
  assert.equal(verdict({ samples, errors: [], across: T + 15_000 }).ok, true);
  assert.equal(verdict({ samples, errors: [], across: T + 90_000 }).ok, false);
  assert.equal(verdict({ samples, errors: [], across: T - 1000 }).ok, false);
});

test('a picture that stands still for longer than it may fails', () => {
  const standing = playing(6).map((sample) => ({ ...sample, current_time: Math.min(sample.current_time, 3) }));
  const moved = standing.concat({ ...standing.at(-1), at_ms: 6000, current_time: 6 });
  assert.equal(verdict({ samples: moved, errors: [] }).stall_s, 4);
  assert.equal(verdict({ samples: moved, errors: [], stallMaxMs: 3900 }).ok, false);
  assert.equal(verdict({ samples: playing(6), errors: [], stallMaxMs: 600 }).ok, true);
});

test('live far behind the present fails', () => {
  const samples = playing(5);
  assert.equal(verdict({ samples, errors: [], lagMaxMs: 10_000, now: T + 60_000 }).ok, false);
  assert.equal(verdict({ samples, errors: [], lagMaxMs: 10_000, now: T + 8000 }).ok, true);
});

test('live ahead of the present fails', () => {
  const samples = playing(5);
  assert.equal(verdict({ samples, errors: [], lagMaxMs: 10_000, now: T + 1000 }).ok, false);
  assert.equal(verdict({ samples, errors: [], lagMaxMs: 10_000, now: T + 4000 }).ok, true);
});

test('a range that was answered with the whole fails', () => {
  assert.equal(verdict({ samples: playing(5), errors: [], wholes: ['/seg/2.mp4'] }).ok, false);
});
