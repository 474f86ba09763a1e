/** The list of the caller's media, with its filter and its deletions. */

import { ago, button, el, isolated, say, tile, together } from "./dom.js";

const list = document.querySelector("#library");
const empty = document.querySelector("#empty");
const trouble = document.querySelector("#library-trouble");
const more = document.querySelector("#more");
const filter = document.querySelector("#status");
const dialog = document.querySelector("#confirm");
const PAGE = 20;
const LIVE_EVERY = 4000; // milliseconds
const UNDER_WAY = ["pending", "promoting", "ready"]; // of an upload that has not left the queue

/**
 * Show the caller's media, newest first and page by page, and refresh the shown pages.
 *
 * A media that `isHidden` is left out, since its upload is on the page already, unless the upload has failed.
 */
export function library({ helper, ask, onPlay, onDelete, isHidden }) {
  let shown = []; // the broker's answers, one per page
  const steps = new Map(); // the steps of this session's uploads, by media id
  const page = (cursor, limit = PAGE) => {
    const query = new URLSearchParams({ limit });
    if (filter.value) query.set("status", filter.value);
    if (cursor) query.set("cursor", cursor);
    return ask("GET", `/?${query}`);
  };

  const draw = () => {
    const rows = new Map([...list.children].map((row) => [row.id, row]));
    const isAbove = ({ status, media_id: id }) => UNDER_WAY.includes(status) && isHidden(id);
    const listed = shown.flatMap(({ media }) => media).filter((media) => !isAbove(media));
    const wanted = listed.map((media) => {
      const old = rows.get(`media-${media.media_id}`);
      const content = JSON.stringify(media) + ago(media.created_at);
      if (old?.content === content) return old;
      const fresh = Object.assign(rowOf(media), { content });
      if (old?.contains(document.activeElement)) queueMicrotask(() => fresh.querySelector("button")?.focus());
      return fresh;
    });
    list.replaceChildren(...wanted);
    empty.hidden = wanted.length > 0;
    empty.textContent = filter.value
      ? `No video is ${filter.value}.`
      : "No videos here yet. The first one you upload appears here.";
    more.hidden = !shown.at(-1)?.next_cursor;
  };

  const guarded = (action) => async (...args) => {
    try {
      await action(...args);
      trouble.hidden = true;
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
    }
  };

  const reread = guarded(async () => {
    const fresh = [];
    for (let index = 0, cursor; index === 0 || (cursor && index < shown.length); index += 1) {
      fresh.push(await page(cursor));
      cursor = fresh.at(-1).next_cursor;
    }
    shown = fresh;
    draw();
  });

  let reading = null;
  let next = null; // the reload after the one that is running
  /** Reload the shown pages. A call during a reload waits for one that begins after it, and so shows what is new. */
  const refresh = () => {
    if (reading) return (next ??= reading.then(refresh));
    next = null;
    reading = reread().finally(() => (reading = null));
    return reading;
  };

  const rowOf = (media) => {
    const name = media.filename?.trim() || `${media.media_id.slice(-8)} (${media.content_type})`;
    const facts = [media.size && helper.inWords(media.size), ago(media.created_at)].filter(Boolean);
    const state = el("span", { className: "state" }, capital(media.status));
    const actions = [button("Delete", name, () => remove(media, name), "quiet danger")];
    if (media.status === "ready") actions.unshift(button("Play", name, () => onPlay(media.media_id, name)));
    return el("li", { className: "row", id: `media-${media.media_id}`, data: { state: media.status } },
      tile(name, media.content_type),
      el("div", {},
        el("p", { className: "name", title: name }, isolated(name)),
        el("p", { className: "facts" }, state, ` · ${together(...facts)}`)),
      el("div", { className: "actions" }, ...actions),
      ...(steps.has(media.media_id) ? [steps.get(media.media_id)] : []));
  };

  const remove = guarded(async (media, name) => {
    document.querySelector("#confirm-title").replaceChildren("Delete ", isolated(name), "?");
    dialog.returnValue = "keep";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "delete") return;
    const row = document.querySelector(`#media-${CSS.escape(media.media_id)}`);
    const next = row?.nextElementSibling ?? row?.previousElementSibling;
    await ask("DELETE", `/${media.media_id}`);
    steps.delete(media.media_id);
    onDelete(media.media_id);
    await reread();
    say(`${name} was deleted`);
    ((next?.isConnected && next.querySelector("button")) || document.querySelector("#videos")).focus();
  });

  more.onclick = guarded(async () => {
    shown.push(await page(shown.at(-1).next_cursor));
    draw();
  });
  filter.onchange = reread;
  setInterval(() => document.hidden || dialog.open || refresh(), LIVE_EVERY);
  /** Show a media that this session uploaded, with its steps. */
  const add = (media, details) => {
    steps.set(media.media_id, details);
    return refresh();
  };
  return { add, refresh };
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}
