// Whether a list of samples shows a picture that plays. Pure: samples and expectations in, findings out.

/** Of the time watched after the first picture, the part that must have been played. */
const PROGRESS_SHARE = 0.5;
const FRAMES_MIN = 10;
/** A picture cannot be of a time that is still to come; clocks and samples differ by less. */
const AHEAD_MAX_MS = 2000;

/**
 * `samples`: `{at_ms, current_time, frames, playing_date, ready_state}` in order; `errors`: what hls.js reported;
 * `across`: a wall time that must have been seen both before and after; `lagMaxMs`: for live, the largest distance of
 * the last picture from `now`; `wholes`: URLs of which a range was asked for and all was sent; `stallMaxMs`: how long the picture may stand still once it moves. Dates and times are milliseconds, `current_time` is seconds.
 */
export function verdict({ samples, errors, across = null, lagMaxMs = null, stallMaxMs = null, now = null, wholes = [] }) {
  const findings = [];
  const fatal = errors.filter((error) => error.fatal);
  if (fatal.length) {
    findings.push(`fatal: ${fatal.map(({ details, reason }) => `${details} ${reason}`.trim()).join('; ')}`);
  }

  const first = samples.findIndex(({ frames, current_time: time }) => frames > 0 && time > 0);
  const played = first < 0 ? 0 : sumOfRises(samples.slice(first), 'current_time');
  const frames = sumOfRises(samples, 'frames') + (samples[0]?.frames ?? 0);
  const watched = first < 0 ? 0 : (samples.at(-1).at_ms - samples[first].at_ms) / 1000;
  if (frames < FRAMES_MIN) findings.push(`${frames} frames decoded`);
  if (first < 0 || played < watched * PROGRESS_SHARE || played === 0) {
    findings.push(`played ${played.toFixed(1)} s in ${watched.toFixed(1)} s after the first picture`);
  }

  const stall = first < 0 ? 0 : longestStall(samples.slice(first)) / 1000;
  if (stallMaxMs !== null && stall * 1000 > stallMaxMs) findings.push(`the picture stood still for ${stall.toFixed(1)} s`);

  const dates = samples.map((sample) => sample.playing_date).filter((date) => date !== null);
  if (!dates.length) findings.push('no program date time');
  if (across !== null) {
    const before = dates.findIndex((date) => date < across);
    const after = dates.findLastIndex((date) => date > across);
    if (before < 0 || after <= before) findings.push(`did not play across ${new Date(across).toISOString()}`);
  }
  const lag = now !== null && dates.length ? now - dates.at(-1) : null;
  if (lagMaxMs !== null && lag !== null) {
    if (lag > lagMaxMs) findings.push(`${Math.round(lag)} ms behind live`);
    if (lag < -AHEAD_MAX_MS) findings.push(`${Math.round(-lag)} ms ahead of now`);
  }
  if (wholes.length) findings.push(`a range was asked for and the whole sent: ${wholes[0]} and ${wholes.length - 1} more`);

  return {
    ok: findings.length === 0,
    findings,
    played_s: round(played),
    watched_s: round(watched),
    first_picture_ms: first < 0 ? null : samples[first].at_ms,
    frames_decoded: frames,
    stall_s: round(stall),
    errors_fatal: fatal.length,
    errors_other: errors.length - fatal.length,
    lag_ms: lag,
  };
}

/** The longest time in milliseconds from one look at which the picture had moved on to the next. */
function longestStall(samples) {
  let longest = 0;
  let moved = samples[0];
  for (const sample of samples.slice(1)) {
    longest = Math.max(longest, sample.at_ms - moved.at_ms);
    if (sample.current_time !== moved.current_time) moved = sample;
  }
  return longest;
}

/** Sum of increases: a new source sets the counters back to zero. */
function sumOfRises(samples, field) {
  let sum = 0;
  for (let i = 1; i < samples.length; i += 1) sum += Math.max(0, samples[i][field] - samples[i - 1][field]);
  return sum;
}

const round = (value) => Math.round(value * 1000) / 1000;
