/** Playback by signed links, each of which is replaced before it expires. */

/** Seconds before expiry at which a link is replaced; a short one is replaced at nine tenths of its life. */
const REPLACE_BEFORE = 60;
const HERE = import.meta.url?.replace(/[^/]*$/, ""); // undefined in a bundle that is no module
const NETWORK = 2; // MediaError.MEDIA_ERR_NETWORK
const LONGEST_WAIT = 2 ** 31 - 1; // milliseconds; the longest delay of setTimeout

/** Return the broker's answer for one media, with a fresh `signed_url` that lives for `expiresIn` seconds. */
export async function link(mediaId, options) {
  const { getToken, prefix = HERE, expiresIn = 3600, download = false, signal } = options;
  if (!prefix) throw new TypeError("The option `prefix` is required, because this bundle does not know the broker's address.");
  const base = String(new URL(prefix, globalThis.location?.href)).replace(/\/*$/, "/");
  const url = new URL(base + mediaId);
  url.search = new URLSearchParams({ expires_in: String(expiresIn), download: String(download) }).toString();
  for (let renewed = false; ; renewed = true) {
    const headers = { Authorization: `Bearer ${await getToken({ renewed })}` };
    const response = await fetch(url, { headers, signal, cache: "no-store" });
    const answer = await response.json().catch(noAnswer);
    if (response.ok && answer.signed_url) return answer;
    if (response.ok) throw new Error(`${base} is not the address of a broker.`);
    if (response.status !== 401 || renewed)
      throw new Error(answer.detail ?? `The broker answered ${response.status}.`);
  }
}

/**
 * Play a media in a `<video>` for as long as needed, independent of the life of one link.
 *
 * A link is replaced shortly before it expires, and when the element fails because it has expired, for example after
 * the device slept. It is also replaced when the connection breaks, but only once until playback resumes. The new link
 * keeps position, speed, and whether the video plays. A video that is fully loaded needs no new link. An abort of the
 * signal is a `stop`; before the first link it rejects.
 */
export async function play(video, mediaId, { onLink, onError, ...options }) {
  let current;
  let timer;
  let stopped = false;
  let patient = true; // whether to fetch another link if the connection breaks

  const replace = async () => {
    clearTimeout(timer);
    const next = await link(mediaId, options);
    options.signal?.throwIfAborted(); // the answer may have come just before
    if (stopped) return next;
    const { currentTime, playbackRate } = video;
    const started = current !== undefined; // otherwise the element may still show another video
    const playing = started && !video.paused;
    // By the wall clock, because performance.now() may stop while the device sleeps.
    current = { ...next, endsAt: Date.now() + next.expires_in * 1000 };
    video.src = next.signed_url;
    if (started && currentTime > 0) video.currentTime = currentTime; // applies once the new source is loaded
    video.playbackRate = playbackRate;
    if (playing) video.play().catch(() => {}); // the browser may require a gesture; the user then uses the controls
    plan();
    onLink?.(next);
    return next;
  };
  const report = (error) => stopped || onError?.(error);
  const plan = () => {
    const before = Math.min(REPLACE_BEFORE, current.expires_in / 10) * 1000;
    const wait = Math.max(0, current.endsAt - before - Date.now());
    timer = setTimeout(() => isFullyLoaded(video) || replace().catch(report), Math.min(wait, LONGEST_WAIT));
  };
  const failed = () => {
    const broken = video.error?.code === NETWORK;
    if (Date.now() >= current.endsAt || (broken && patient)) {
      patient &&= !broken;
      replace().catch(report);
    } else if (broken) report(new Error("The connection to the video was lost. Fetch a new link to continue."));
    else report(new Error("This browser cannot play the video; it may not know its codec."));
  };
  const plays = () => (patient = true);
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    video.removeEventListener("error", failed);
    video.removeEventListener("playing", plays);
  };

  options.signal?.addEventListener("abort", stop, { once: true });
  await replace();
  video.addEventListener("error", failed);
  video.addEventListener("playing", plays);
  return { replace, stop };
}

/** Return an empty answer for a body that is not JSON, such as a proxy's page. Throws what broke the connection. */
function noAnswer(error) {
  if (error instanceof SyntaxError) return {};
  throw error;
}

function isFullyLoaded({ buffered, duration }) {
  return buffered.length === 1 && buffered.start(0) === 0 && buffered.end(0) >= duration;
}
