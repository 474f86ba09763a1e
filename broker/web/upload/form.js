/** The transfer of one form to the bucket, with its progress, and the diagnosis of a transfer without an answer. */

import { UploadError, fileGone, s3Refusal, unreachable } from "./errors.js";

// Seconds.
const STALLED_AFTER = 60; // without progress for so long, a transfer counts as dropped
const ANSWER_WITHIN = 120; // timeout of S3's answer after the last byte

/**
 * Post `blob` to the bucket with a form's `url` and `fields`, and resolve once S3 has stored it.
 *
 * By XMLHttpRequest, because fetch reports no upload progress. `onLoaded` gets the number of the blob's bytes that were
 * sent. Rejects with S3's refusal, with a Dropped, or with the signal's reason.
 */
export function post({ url, fields, headers = {} }, blob, { signal, onLoaded, maxSize }) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", blob, "file"); // S3 ignores fields after the file
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    let loaded = 0;
    let watch;
    const moved = () => {
      clearTimeout(watch);
      watch = setTimeout(abort, (loaded < blob.size ? STALLED_AFTER : ANSWER_WITHIN) * 1000);
    };
    xhr.upload.onprogress = (event) => {
      loaded = Math.max(0, blob.size - (event.total - event.loaded)); // without the size of the form's other fields
      moved();
      onLoaded(loaded);
    };
    xhr.onload = () => (xhr.status < 300 ? resolve() : reject(s3Refusal(xhr.status, xhr.responseText, maxSize)));
    xhr.onerror = xhr.onabort = () => reject(signal.aborted ? signal.reason : new Dropped(loaded));
    xhr.onloadend = () => {
      clearTimeout(watch);
      signal.removeEventListener("abort", abort);
    };
    signal.addEventListener("abort", abort, { once: true });
    xhr.open("POST", url);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.send(form);
    moved();
  });
}

/** A transfer that ended without an answer, after `loaded` bytes of the blob. */
export class Dropped extends Error {
  constructor(loaded) {
    super(`The connection broke after ${loaded} bytes.`);
    this.loaded = loaded;
  }
}

/**
 * Return a function that names the most likely reason for a Dropped of `blob` on the way to `url`.
 *
 * It suspects the bucket's CORS only if this upload `moved` no byte yet, since a failed preflight moves none.
 */
export function diagnosis() {
  let preflightFailures = 0;
  return async ({ loaded }, blob, url, { signal, moved }) => {
    try {
      await blob.slice(0, 1).arrayBuffer();
    } catch (cause) {
      return fileGone(cause);
    }
    if (loaded >= blob.size) return unreachable("S3", url, { again: "complete" });
    // The browser gives this page no reason. A request in mode no-cors shows whether the bucket can be reached at all.
    const isReachable = () => fetch(url, { mode: "no-cors", cache: "no-store", signal }).then(() => true, () => false);
    preflightFailures = !moved && (await isReachable()) ? preflightFailures + 1 : 0;
    if (preflightFailures < 2) return unreachable("S3", url, { again: "send" });
    const origin = globalThis.location?.origin;
    return new UploadError("cors", `Your bucket's CORS does not list this origin (${origin}).`,
      `Add it to AllowedOrigins of ${new URL(url).origin}, with AllowedMethods POST and ExposeHeaders ETag, Location.`);
  };
}
