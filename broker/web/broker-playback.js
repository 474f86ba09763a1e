/** Playback by signed links, each of which is replaced before it expires. */

import { Broker } from "./upload/broker.js";
import { delay, online } from "./upload/waiting.js";

/** Seconds before expiry at which a link is replaced; a short one is replaced at nine tenths of its life. */
const REPLACE_BEFORE = 60;
const RETRY_AFTER = 5; // seconds; a replacement that failed is tried again then, or once the device is online
const HERE = import.meta.url?.replace(/[^/]*$/, ""); // undefined in a bundle that is no module
const NETWORK = 2; // MediaError.MEDIA_ERR_NETWORK
const LONGEST_WAIT = 2_000_000; // seconds; setTimeout takes 2^31 - 1 milliseconds at most

/** Return the broker's answer for one media, with a fresh `signed_url` that lives for `expiresIn` seconds. */
export async function link(mediaId, options) {
  const { getToken, prefix = HERE, expiresIn = 3600, download = false, signal } = options;
  if (!prefix) throw new TypeError("The option `prefix` is required, because this bundle does not know the broker's address.");
  const query = new URLSearchParams({ expires_in: String(expiresIn), download: String(download) });
  return new Broker(prefix, getToken).ask("GET", `${mediaId}?${query}`, { signal });
}

/**
 * Play a media in a `<video>` for as long as needed, independent of the life of one link.
 *
 * A link is replaced shortly before it expires, and when the element fails because it has expired, for example after
 * the device slept. It is also replaced when the connection breaks, but only once until playback resumes. The new link
 * keeps position, speed, and whether the video plays. A video that is fully loaded needs no new link. If a new link
 * cannot be had now, it is asked for again every few seconds; `onError` is called once the video cannot play. An abort
 * of the signal is a `stop`; before the first link it rejects.
 */
export async function play(video, mediaId, { onLink, onError, ...options }) {
  let current;
  let pause = new AbortController(); // ends the wait for the next replacement
  let stopped = false;
  let patient = true; // whether to fetch another link if the connection breaks
  let reported = false; // whether the page knows that no link can be had

  const replace = async () => {
    pause.abort();
    pause = new AbortController();
    const next = await link(mediaId, options).catch((error) => {
      if (current && error.again) retry();
      throw error;
    });
    options.signal?.throwIfAborted(); // the answer may have come just before
    if (stopped) return next;
    const { currentTime, playbackRate } = video;
    const started = current !== undefined; // otherwise the element may still show another video
    const playing = started && !video.paused;
    // By the wall clock, because performance.now() may stop while the device sleeps.
    current = { ...next, endsAt: Date.now() + next.expires_in * 1000 };
    reported = false;
    video.src = next.signed_url;
    if (started && currentTime > 0) video.currentTime = currentTime; // applies once the new source is loaded
    video.playbackRate = playbackRate;
    if (playing) video.play().catch(() => {}); // the browser may require a gesture; the user then uses the controls
    after(delay(untilDue(), pause.signal));
    onLink?.(next);
    return next;
  };
  const report = (error) => stopped || onError?.(error);
  const isAlive = () => !video.error && Date.now() < current.endsAt;
  /** Replace the link. A failure is reported once, and only if the video cannot play meanwhile. */
  const renew = () => replace().catch((error) => {
    if (isAlive() || reported) return;
    reported = !!error.again;
    report(error);
  });
  /** Replace the link after a wait, unless something else replaces it before. */
  const after = (wait) => wait.then(() => isFullyLoaded(video) || renew(), () => {});
  const untilDue = () => {
    const before = Math.min(REPLACE_BEFORE, current.expires_in / 10);
    return Math.min(Math.max(0, (current.endsAt - Date.now()) / 1000 - before), LONGEST_WAIT);
  };
  const retry = () => {
    const { signal } = pause;
    if (!stopped) after(online(isAlive() ? Math.max(untilDue(), RETRY_AFTER) : RETRY_AFTER, signal));
  };
  const failed = () => {
    const broken = video.error?.code === NETWORK;
    if (Date.now() >= current.endsAt || (broken && patient)) {
      patient &&= !broken;
      renew();
    } else if (broken) report(new Error("The connection to the video was lost. Fetch a new link to continue."));
    else report(new Error("This browser cannot play the video; it may not know its codec."));
  };
  const plays = () => (patient = true);
  const stop = () => {
    stopped = true;
    pause.abort();
    video.removeEventListener("error", failed);
    video.removeEventListener("playing", plays);
  };

  options.signal?.addEventListener("abort", stop, { once: true });
  await replace();
  video.addEventListener("error", failed);
  video.addEventListener("playing", plays);
  return { replace, stop };
}

function isFullyLoaded({ buffered, duration }) {
  return buffered.length === 1 && buffered.start(0) === 0 && buffered.end(0) >= duration;
}
