/** Play a media by signed links, and fetch the next link before one ends. */

/** Seconds before its end at which a link is replaced; a short one is replaced at nine tenths of its life. */
const REPLACE_BEFORE = 60;
const HERE = import.meta.url.replace(/[^/]*$/, "");
const NETWORK = 2; // MediaError.MEDIA_ERR_NETWORK
const LONGEST_WAIT = 2 ** 31 - 1; // milliseconds: what setTimeout can hold

/** Return the broker's answer for one media, with a fresh `signed_url` that lives for `expiresIn` seconds. */
export async function link(mediaId, options) {
  const { getToken, prefix = HERE, expiresIn = 3600, download = false, signal } = options;
  const base = String(new URL(prefix, globalThis.location?.href)).replace(/\/*$/, "/");
  const url = new URL(base + mediaId);
  url.search = new URLSearchParams({ expires_in: String(expiresIn), download: String(download) }).toString();
  for (let renewed = false; ; renewed = true) {
    const headers = { Authorization: `Bearer ${await getToken({ renewed })}` };
    const response = await fetch(url, { headers, signal, cache: "no-store" });
    const answer = await response.json().catch(() => ({}));
    if (response.ok && answer.signed_url) return answer;
    if (response.ok) throw new Error(`${base} does not answer as a broker does.`);
    if (response.status !== 401 || renewed)
      throw new Error(answer.detail ?? `The broker answered ${response.status}.`);
  }
}

/**
 * Play a media in a `<video>` for as long as it stays there, whatever the life of one link.
 *
 * A link is replaced shortly before it ends, or when the element fails because it has ended (after a sleep of the
 * device, say) or, once until it plays again, because the connection broke. Position, speed and whether it plays are kept; a film that is loaded to its end needs no new link.
 */
export async function play(video, mediaId, { onLink, onError, ...options }) {
  let current;
  let timer;
  let stopped = false;
  let patient = true; // whether one more link may mend a connection that breaks

  const replace = async () => {
    clearTimeout(timer);
    const next = await link(mediaId, options);
    if (stopped) return next;
    const { currentTime, playbackRate } = video;
    const begun = current !== undefined; // else the element may still show another film
    const playing = begun && !video.paused;
    // By the wall clock: the other one may stand still while the device sleeps.
    current = { ...next, endsAt: Date.now() + next.expires_in * 1000 };
    video.src = next.signed_url;
    if (begun && currentTime > 0) video.currentTime = currentTime; // kept as the position to start from
    video.playbackRate = playbackRate;
    if (playing) video.play().catch(() => {}); // the browser may ask for a gesture; the controls are there
    plan();
    onLink?.(next);
    return next;
  };
  const report = (error) => onError?.(error);
  const plan = () => {
    const before = Math.min(REPLACE_BEFORE, current.expires_in / 10) * 1000;
    const wait = Math.max(0, current.endsAt - before - Date.now());
    timer = setTimeout(() => loadedToItsEnd(video) || replace().catch(report), Math.min(wait, LONGEST_WAIT));
  };
  const failed = () => {
    const broken = video.error?.code === NETWORK;
    if (Date.now() >= current.endsAt || (broken && patient)) {
      patient &&= !broken;
      replace().catch(report);
    } else if (broken) report(new Error("The connection to the video broke off. Ask for a new link to go on."));
    else report(new Error("This browser cannot play the video; it may not know its codec."));
  };
  const plays = () => (patient = true);
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    video.removeEventListener("error", failed);
    video.removeEventListener("playing", plays);
  };

  await replace();
  video.addEventListener("error", failed);
  video.addEventListener("playing", plays);
  return { replace, stop };
}

function loadedToItsEnd({ buffered, duration }) {
  return buffered.length === 1 && buffered.start(0) === 0 && buffered.end(0) >= duration;
}
