// One video element and hls.js: live, past, and from past into live. Knows wall time; knows nothing of the page.

import { authorizeXhr, paths, problemOfXhr, Problem, serverNow } from './api.js';
import { rfc3339 } from './format.js';
import { mediaSpan, mediaTimeAt, wallTimeAt } from './playlist.js';

/** Up to this age a past time is played from one playlist that flows into live. */
const OPEN_ENDED_MS = 2 * 3600_000;
/** Older footage comes in playlists of this length, one after another, so that none is reloaded or grows huge. */
const STRETCH_MS = 4 * 3600_000;
/** Seconds of video fetched ahead at normal speed; played faster, more. */
const AHEAD_S = 20;
/** Until the network is known the best quality is tried: most viewers sit in the same building. */
const FIRST_GUESS_BPS = 20_000_000;
const RETRY_FIRST_MS = 1000;
const RETRY_LAST_MS = 15_000;
const MEDIA_RECOVERY_PAUSE_MS = 5000;
const ERRORS_KEPT = 200;

/** Events: `time`, `state`, `levels`, and `problem` with `detail: {problem, retrying}`. */
export class Player extends EventTarget {
  constructor(video) {
    super();
    this.video = video;
    this.hls = null;
    this.camera = null;
    this.startAt = null;
    this.until = null;
    this.failed = false;
    /** `'live'` or `'past'`: which playlist is open. */
    this.source = null;
    this.errors = [];
    this.wantsPlay = true;
    this.rate = 1;
    this.retryMs = RETRY_FIRST_MS;
    this.lastRecovery = -Infinity;
    for (const name of ['play', 'pause', 'waiting', 'playing', 'seeking', 'seeked', 'loadeddata', 'volumechange']) {
      video.addEventListener(name, () => this.#emit('state'));
    }
    video.addEventListener('timeupdate', () => this.#tick());
    video.addEventListener('ended', () => this.#next());
  }

  /** The wall time on screen in milliseconds, or `null`. */
  get playingTime() {
    if (!this.hls || this.video.readyState === 0) return null;
    return wallTimeAt(this.#details(), this.video.currentTime);
  }

  /** The wall time that was asked for and is not on screen yet, or `null`. */
  get awaitedTime() {
    return this.source === 'past' && this.playingTime === null ? this.startAt : null;
  }

  /** Whether the picture is as fresh as this playlist allows. */
  get atLive() {
    const edge = this.hls?.liveSyncPosition;
    const details = this.#details();
    if (edge === null || edge === undefined || !details?.live || this.video.paused) return false;
    return this.video.currentTime >= edge - 1.5 * details.targetduration - 1;
  }

  get loading() {
    return Boolean(this.hls) && this.video.readyState < 3 && !this.video.ended;
  }

  openLive(camera) {
    this.#open(camera, 'live', paths.live(camera), -1);
  }

  /** Plays from wall time `at`; near enough to now it flows into live. */
  openAt(camera, at) {
    const query = { from: rfc3339(at) };
    this.until = null;
    if (serverNow() - at > OPEN_ENDED_MS) {
      this.until = at + STRETCH_MS;
      query.to = rfc3339(this.until);
    }
    this.startAt = at;
    this.#open(camera, 'past', paths.past(camera, query), 0);
  }

  /** Goes to a wall time, within the open playlist where it has it. */
  seek(at) {
    const position = mediaTimeAt(this.#details(), at);
    if (position === null || !this.#loaded()) this.openAt(this.camera, at);
    else this.video.currentTime = position;
    this.#emit('time');
  }

  /** Moves by seconds of video; false when that would leave the open playlist. */
  step(seconds) {
    const details = this.#details();
    const span = mediaSpan(details);
    if (!span || !this.#loaded()) return false;
    const target = this.video.currentTime + seconds;
    if (target < span.from) return false;
    const edge = (details.live && this.hls.liveSyncPosition) || span.to - 0.1;
    this.video.currentTime = seconds > 0 ? Math.max(this.video.currentTime, Math.min(target, edge)) : target;
    this.#emit('time');
    return true;
  }

  play() {
    this.wantsPlay = true;
    return this.video.play().catch(() => {});
  }

  pause() {
    this.wantsPlay = false;
    this.video.pause();
  }

  toggle() {
    if (this.video.paused) this.play();
    else this.pause();
  }

  setRate(rate) {
    this.rate = rate;
    this.video.playbackRate = rate;
    if (this.hls) this.hls.config.maxBufferLength = AHEAD_S * Math.max(1, rate);
    this.#emit('state');
  }

  /** Index into `hls.levels`, or -1 for the player's own choice. */
  setQuality(level) {
    if (this.hls) this.hls.nextLevel = level;
  }

  close() {
    clearTimeout(this.retry);
    this.hls?.destroy();
    this.hls = null;
    this.source = null;
  }

  #details() {
    const hls = this.hls;
    const level = hls?.levels?.[hls.currentLevel >= 0 ? hls.currentLevel : Math.max(hls.loadLevel, 0)];
    return level?.details ?? hls?.latestLevelDetails ?? null;
  }

  #loaded() {
    return this.video.readyState > 0;
  }

  #open(camera, source, url, startPosition) {
    this.close();
    Object.assign(this, { camera, source });
    if (!window.Hls?.isSupported()) {
      this.#fail(new Problem(0, { title: 'This browser cannot play', detail: 'It has no Media Source Extensions.' }));
      return;
    }
    const hls = new window.Hls({
      startPosition,
      lowLatencyMode: false,
      backBufferLength: 60,
      maxBufferLength: AHEAD_S * Math.max(1, this.rate),
      abrEwmaDefaultEstimate: FIRST_GUESS_BPS,
      xhrSetup: authorizeXhr,
    });
    this.hls = hls;
    const { Events } = window.Hls;
    hls.on(Events.ERROR, (_, data) => this.#error(data));
    hls.on(Events.MANIFEST_PARSED, () => this.#emit('levels'));
    hls.on(Events.LEVEL_SWITCHED, () => this.#emit('levels'));
    hls.on(Events.FRAG_BUFFERED, () => this.#buffered());
    this.video.addEventListener('loadedmetadata', () => this.#begin(hls), { once: true });
    this.video.addEventListener('canplay', () => this.#start(hls), { once: true });
    hls.loadSource(url);
    hls.attachMedia(this.video);
    this.#emit('state');
    this.#emit('time');
  }

  /** The first fragment begins at its keyframe, usually a little before the time that was asked for. */
  #begin(hls) {
    if (hls !== this.hls) return;
    this.video.playbackRate = this.rate;
    if (this.source === 'past') {
      const position = mediaTimeAt(this.#details(), this.startAt);
      if (position !== null && position > this.video.currentTime) this.video.currentTime = position;
    }
    this.#emit('time');
  }

  /** Only now is the picture at the start position there: playing earlier would count as a stall. */
  #start(hls) {
    if (hls === this.hls && this.wantsPlay) this.play();
  }

  #buffered() {
    this.retryMs = RETRY_FIRST_MS;
    if (this.failed) {
      this.failed = false;
      this.dispatchEvent(new CustomEvent('problem', { detail: null }));
    }
  }

  /** Playing faster than life ends where life is. */
  #tick() {
    if (this.rate > 1 && this.atLive) this.setRate(1);
    this.#emit('time');
  }

  /** At the end of a stretch of old footage the next one follows. */
  #next() {
    if (this.source === 'past' && this.until && this.until < serverNow()) this.openAt(this.camera, this.until);
    else this.#emit('state');
  }

  #error(data) {
    const { type, details, fatal } = data;
    this.errors.push({ at: Date.now(), type, details, fatal, reason: data.reason ?? data.error?.message ?? '' });
    this.errors.splice(0, this.errors.length - ERRORS_KEPT);
    if (!fatal) return;
    const { ErrorTypes } = window.Hls;
    if (type === ErrorTypes.MEDIA_ERROR && performance.now() - this.lastRecovery > MEDIA_RECOVERY_PAUSE_MS
        && !details.includes('Incompatible')) {
      this.lastRecovery = performance.now();
      this.hls.recoverMediaError();
      return;
    }
    if (type === ErrorTypes.NETWORK_ERROR) {
      this.#networkError(problemOfXhr(data.networkDetails));
      return;
    }
    const detail = details.includes('Codec') || details.includes('Incompatible')
      ? 'This browser does not decode the codec of this camera. An export still holds it.'
      : `${details} ${data.error?.message ?? ''}`;
    this.#fail(new Problem(0, { title: 'The picture cannot be shown', detail }));
  }

  #networkError(problem) {
    const lasting = problem.status >= 400 && problem.status < 500 && problem.status !== 429;
    if (lasting && (this.source === 'past' || problem.status === 401)) {
      this.#fail(problem);
      return;
    }
    const at = this.playingTime;
    this.#fail(problem, true);
    this.retry = setTimeout(() => {
      if (this.source === 'past') this.openAt(this.camera, at ?? this.startAt);
      else this.openLive(this.camera);
    }, this.retryMs);
    this.retryMs = Math.min(this.retryMs * 2, RETRY_LAST_MS);
  }

  #fail(problem, retrying = false) {
    this.failed = true;
    this.hls?.stopLoad();
    this.dispatchEvent(new CustomEvent('problem', { detail: { problem, retrying } }));
    this.#emit('state');
  }

  #emit(name) {
    this.dispatchEvent(new Event(name));
  }
}
