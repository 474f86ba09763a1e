/** The player, and the actions on the media that it plays. */

import { duration, el, flash, isolated, say } from "./dom.js";

const video = document.querySelector("#video");
const title = document.querySelector("#player-title");
const facts = document.querySelector("#player-facts");
const actions = document.querySelector("#player-actions");
const nothing = document.querySelector("#nothing");
const reason = document.querySelector("#nothing p");
const section = document.querySelector(".player");
const about = document.querySelector("#about");
const closing = document.querySelector("#close");

/** Play one media at a time by signed links that live for `expiresIn` seconds. */
export function player({ helper, playback, getToken, prefix, expiresIn }) {
  const options = { getToken, prefix, expiresIn };
  let current = null;
  let endsAt = 0;

  const onLink = (media) => {
    showVideo(true);
    endsAt = Date.now() + media.expires_in * 1000;
    showExpiry();
    describe(media);
  };
  /** Show the video, or the reason in its place. */
  const showVideo = (visible, text = "") => {
    if (current) current.failed = !visible;
    if (!visible) video.pause(); // its sound would go on
    video.hidden = !visible;
    nothing.hidden = visible;
    reason.textContent = text;
  };
  /** Return a function that shows an error of the playback `opened`, unless it has been closed. */
  const errorOf = (opened) => (error) => {
    if (current !== opened) return;
    showVideo(false, error.message);
    facts.textContent = "The file can still be downloaded.";
    say(error.message);
  };
  const showExpiry = () => {
    if (!current || current.failed) return;
    const left = duration(Math.max(0, (endsAt - Date.now()) / 1000));
    facts.textContent = `This signed link expires in ${left} and is then replaced automatically.`;
  };
  setInterval(showExpiry, 1000);
  const describe = ({ media_id: id, content_type: type, size, etag, ready_at: at }) => {
    const ready = new Date(at).toLocaleString();
    const rows = [["Size", helper.inWords(size)], ["Type", type], ["Ready", ready]];
    rows.push(["Media", id, "code"], ["ETag", etag, "code"]);
    const pairs = rows.map(([term, text, className = ""]) => [el("dt", {}, term), el("dd", { className }, text)]);
    about.replaceChildren(...pairs.flat());
    about.hidden = false;
  };

  /** Close the player, or only if it plays this media. */
  const close = (mediaId) => {
    if (!current || (mediaId && current.mediaId !== mediaId)) return;
    current.stop.abort();
    current = null;
    video.removeAttribute("src");
    video.load();
    showVideo(false, "Nothing to play yet");
    actions.hidden = closing.hidden = about.hidden = true;
    section.dataset.state = "empty";
    title.textContent = "Player";
    facts.textContent = "Videos play from S3 through signed links that expire.";
  };

  const open = async (mediaId, name) => {
    close();
    const opened = { mediaId, name, stop: new AbortController() };
    current = opened;
    showVideo(true);
    actions.hidden = closing.hidden = false;
    section.dataset.state = "open";
    title.replaceChildren(isolated(name));
    const { signal } = opened.stop;
    const onError = errorOf(opened);
    try {
      opened.controls = await playback.play(video, mediaId, { ...options, signal, onLink, onError });
    } catch (error) {
      return onError(error);
    }
    video.play().catch(() => {}); // a browser may require a gesture; the user then uses the controls
    title.focus({ preventScroll: true });
    const smooth = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    video.scrollIntoView({ block: "nearest", behavior: smooth });
  };

  const link = (download) => playback.link(current.mediaId, { ...options, download });
  const [newLink, copyLink, download] = ["#new-link", "#copy-link", "#download"].map((id) => document.querySelector(id));
  newLink.onclick = () =>
    current.controls
      ? current.controls.replace().then(() => flash(newLink, "Replaced"), () => flash(newLink, "Not replaced"))
      : open(current.mediaId, current.name);
  copyLink.onclick = () =>
    link(false)
      .then((fresh) => navigator.clipboard.writeText(fresh.signed_url))
      .then(() => flash(copyLink, "Copied"), () => flash(copyLink, "Not copied"));
  download.onclick = () =>
    link(true).then((fresh) => location.assign(fresh.signed_url), () => flash(download, "Not downloaded"));
  closing.onclick = () => {
    const row = `#media-${CSS.escape(current.mediaId)}`;
    close();
    (document.querySelector(`${row} button`) ?? document.querySelector("#videos")).focus();
  };
  return { open, close };
}
