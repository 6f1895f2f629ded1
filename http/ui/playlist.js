// Wall time to media time and back, from the program date times of the playlist that hls.js has loaded.
// Media time (seconds) runs on through gaps; wall time (milliseconds) jumps there.

const timed = (details) => (details?.fragments ?? []).filter((fragment) => fragment.programDateTime !== null);

/** The wall time shown at media time `at`, or `null` outside the playlist. */
export function wallTimeAt(details, at) {
  const fragments = timed(details);
  for (let i = fragments.length - 1; i >= 0; i -= 1) {
    const { start, programDateTime } = fragments[i];
    if (at >= start || i === 0) return programDateTime + (at - start) * 1000;
  }
  return null;
}

/** Where in media time wall time `wall` plays; in a gap the first picture after it; `null` if not in this playlist. */
export function mediaTimeAt(details, wall) {
  const fragments = timed(details);
  if (!fragments.length || wall < fragments[0].programDateTime) return null;
  for (const { start, duration, programDateTime } of fragments) {
    if (wall < programDateTime) return start;
    if (wall < programDateTime + duration * 1000) return start + (wall - programDateTime) / 1000;
  }
  return null;
}

/** The media time span that a playlist covers. */
export function mediaSpan(details) {
  const fragments = timed(details);
  if (!fragments.length) return null;
  const last = fragments[fragments.length - 1];
  return { from: fragments[0].start, to: last.start + last.duration };
}
