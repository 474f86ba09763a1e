/** One upload: a small state machine over the broker and S3, which pauses, waits for the network, and goes on. */

import { checksumOf } from "../checksum.js";
import { Broker, fromApplication, subjectOf } from "./broker.js";
import { UploadError, isOffline } from "./errors.js";
import { Parts } from "./parts.js";
import { Patience } from "./patience.js";
import { Meter } from "./progress.js";
import { InParts, WholeFile } from "./transfer.js";
import { Unfinished, localStorageOrNull } from "./unfinished.js";
import { contentTypeOf } from "./video-types.js";
import { limitTo, settled, until } from "./waiting.js";

const RESUMABLE_OVER = 32 * 1024 * 1024; // bytes
const ATTEMPTS = 8;
const PAGE = 1000; // parts; one page of the broker shows as many
const FORMS = 16; // the number of parts whose forms are fetched at a time

const PAUSED = new DOMException("The upload is paused.", "AbortError");
const LOST = new Set([404, 409, 410, 422]); // the broker's answers about an upload that cannot go on
const GONE = new Set([404, 410, 422]); // its answers to the key of one; 409 is also a request of the key that still runs
const shared = limitTo(3);

/**
 * The upload of one file, in steps; `next` names the coming one.
 *
 * `recall` looks for an unfinished upload of the file, `issue` gets a media from the broker, `catchUp` asks which parts
 * have arrived, `send` sends the file or its missing parts, and `complete` has the broker confirm them.
 */
export class Upload {
  constructor(file, options) {
    const { prefix, getToken, issued, issue, owner, storage = localStorageOrNull(), limit = shared } = options;
    const { onProgress, signal, attempts = ATTEMPTS, idempotencyKey = newKey() } = options;
    const { checksum, resumableOver = RESUMABLE_OVER, filename = file.name, durationSeconds, metadata } = options;
    const address = prefix ?? issued?.complete_url?.replace(/[^/]*\/complete$/, "");
    if (!address) throw new TypeError("The option `prefix` is required, because this bundle does not know the broker's address.");
    Object.assign(this, { file, owner, storage, limit, onProgress, signal, attempts, checksum, key: idempotencyKey });
    this.batch = null; // the files that were chosen with this one, until the broker has issued their uploads
    this.application = { issued, issue };
    this.issuing = null; // the answer that is awaited
    this.broker = new Broker(address, getToken);
    this.resumable = file.size > resumableOver && typeof checksum !== "string"; // a string is a SHA-256, for one form
    this.description = { filename, duration_seconds: durationSeconds, metadata };
    this.memory = null; // what this browser remembers of the upload
    this.next = "recall";
    this.transfer = new WholeFile(this);
    this.meter = new Meter(file.size);
    this.state = "waiting";
    this.patience = new Patience(attempts, (...state) => this.report(...state)); // its failures are since a part arrived
    this.restarted = false;
    this.paused = false;
    this.turn = new AbortController(); // ends everything that runs until the next pause
    this.goOn = () => {};
  }

  pause() {
    this.paused = true;
    this.turn.abort(PAUSED);
  }

  resume() {
    this.paused = false;
    this.goOn();
  }

  async run() {
    const { signal } = this;
    const abort = () => this.turn.abort(signal.reason);
    const loseNetwork = () => this.state === "sending" && this.report("sending");
    signal?.throwIfAborted();
    signal?.addEventListener("abort", abort);
    globalThis.addEventListener?.("offline", loseNetwork);
    try {
      for (;;) {
        try {
          return await this.takeTurn();
        } catch (error) {
          if (error !== PAUSED) throw error;
        }
      }
    } catch (error) {
      if (signal?.aborted) this.withdraw();
      else if (error.problem && LOST.has(error.status)) this.memory?.forget();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
      globalThis.removeEventListener?.("offline", loseNetwork);
      this.memory?.release();
    }
  }

  /** Go on until the media is ready. A paused upload leaves its place to others. */
  async takeTurn() {
    while (this.paused) {
      this.report("paused");
      await until(this.signal, (resolve) => void (this.goOn = resolve));
    }
    this.signal?.throwIfAborted(); // the last turn may have ended with a pause, before this abort
    this.turn = new AbortController();
    const { signal } = this.turn;
    if (this.batch) await this.join(signal);
    this.report("waiting");
    const leave = await this.limit.enter(signal);
    try {
      for (;;) {
        signal.throwIfAborted(); // not every step listens
        try {
          const media = await this[this.next](signal);
          if (media) return media;
        } catch (error) {
          await this.decide(error, signal);
        }
      }
    } finally {
      leave();
    }
  }

  /** Wait before the next try, or throw the error if no retry can help. `began` is when the failed transfer did. */
  async decide(error, signal, began = Infinity) {
    signal.throwIfAborted();
    const { again } = error;
    if (!again || (again === "anew" && !this.startAnew())) throw error;
    if (again !== "same" && again !== "anew") this.next = again;
    await this.patience.pause(error, signal, began);
  }

  /** Wait for the broker's answer to all files of the batch. Without one for this file, this upload asks on its own. */
  async join(signal) {
    try {
      const issued = await this.batch.answerFor(this, signal);
      if (issued) this.adopt(issued);
    } catch (error) {
      signal.throwIfAborted(); // a paused upload waits for the answer again
      this.batch = null;
      await this.decide(error, signal);
    }
    this.batch = null;
  }

  /** Prepare another media instead of one that is lost; return whether this upload has not done so before. */
  startAnew() {
    if (this.restarted) return false;
    this.memory?.forget();
    Object.assign(this, { restarted: true, key: newKey(), mediaId: undefined, next: "issue" });
    this.transfer = new WholeFile(this);
    return true;
  }

  async recall() {
    const { file, storage, application, broker } = this;
    if (application.issued) return this.adopt(application.issued);
    if (this.resumable && file.name !== undefined) {
      this.owner ??= application.issue ? "" : subjectOf(await broker.token(false));
      this.memory = await new Unfinished(storage, broker.prefix, this.owner).of(file);
    }
    const record = this.memory?.record;
    if (record) Object.assign(this, { mediaId: record.mediaId, key: record.idempotencyKey });
    // An application that issues repeats the upload's own token for the same key.
    this.next = record && !application.issue ? "catchUp" : "issue";
  }

  get algorithm() {
    return this.resumable ? "crc64nvme" : "sha256";
  }

  /** Return the body of the request to issue this upload. */
  request() {
    const request = { content_type: contentTypeOf(this.file), size: this.file.size, ...this.description };
    if (this.checksum) request[`checksum_${this.algorithm}`] = this.checksum;
    if (this.resumable) request.resumable = true;
    return request;
  }

  async issue(signal) {
    const { file, application } = this;
    if (application.issued) throw new UploadError("expired", "The permission to upload has expired.", "Reload the page.");
    if (this.checksum === true) {
      this.report("checking");
      this.checksum = await checksumOf(file, this.algorithm, signal);
    }
    this.report("asking");
    try {
      this.issuing = this.ask(signal);
      this.adopt(await settled(this.issuing, signal));
      this.issuing = null;
    } catch (error) {
      if (!this.memory?.record || !GONE.has(error.status) || !this.startAnew()) throw error;
    }
  }

  /** Return the answer to the request to issue this upload. A pause ends the request; a cancel needs its answer. */
  ask(signal) {
    const { file, application, key } = this;
    const stop = new AbortController();
    signal.addEventListener("abort", () => signal.reason === PAUSED && stop.abort(PAUSED));
    const request = this.request();
    if (application.issue) {
      const relay = () => application.issue(file, { request, idempotencyKey: key, signal: stop.signal });
      return fromApplication("upload", relay);
    }
    const headers = { "Idempotency-Key": key };
    return this.broker.ask("POST", "upload", { headers, body: request, signal: stop.signal, file });
  }

  /** Take over what the broker issued, directly or through the application. */
  adopt(issued) {
    if (!issued?.media_id)
      throw new UploadError("application", issued?.detail ?? "The application's answer is not the one of the broker.");
    const isKnown = this.mediaId === issued.media_id;
    if (this.mediaId && !isKnown) this.remove(this.mediaId); // it was issued with others, and expired in the queue
    this.mediaId = issued.media_id;
    this.broker.uploadToken = issued.upload_token ?? null;
    if (issued.parts) {
      const page = { expires_in: issued.expires_in, ...issued.parts };
      if (!isKnown) this.transfer = new InParts(this, new Parts(this.file.size, page));
      if (!isKnown) this.transfer.parts.learn(page);
      const expiresAt = Date.parse(issued.upload_expires_at);
      this.memory?.keep({ mediaId: this.mediaId, idempotencyKey: this.key, expiresAt });
      this.next = isKnown ? "catchUp" : "send";
    } else if (issued.upload) {
      this.transfer.renew(issued, { isFresh: !this.batch }); // other files of a batch may go first
      this.next = "send";
    } else {
      this.transfer.loaded = this.file.size; // the file of this key has already arrived
      this.next = "complete";
    }
  }

  async catchUp(signal) {
    this.report("asking");
    try {
      let page = await this.page(1, PAGE, signal);
      const parts = new Parts(this.file.size, page);
      for (;;) {
        parts.learn(page);
        if (!page.next_from) break;
        page = await this.page(page.next_from, PAGE, signal);
      }
      this.transfer = new InParts(this, parts);
      this.memory?.keep({ loaded: parts.acknowledged });
      this.next = "send";
    } catch (error) {
      if (!LOST.has(error.status) || !this.startAnew()) throw error;
    }
  }

  /** Return the broker's page of `limit` parts that begins with the number `from`, with forms for the first missing. */
  async page(from, limit, signal) {
    const path = `${this.mediaId}/parts?from=${from}&limit=${limit}&forms=${FORMS}`;
    const answer = await this.broker.ask("GET", path, { signal, file: this.file });
    return { expires_in: answer.expires_in, ...answer.parts };
  }

  async send(signal) {
    this.next = await this.transfer.send(signal);
  }

  /** Fetch forms for the missing parts from the number `from` on. */
  async fetchForms(from, signal) {
    this.transfer.parts.learn(await this.page(from, FORMS, signal));
  }

  /** Note that a part arrived: what failed before is no reason to give up. */
  progressed() {
    this.patience.reset();
    this.restarted = true; // never again from zero
    this.memory?.keep({ loaded: this.transfer.parts.acknowledged });
    this.report("sending");
  }

  async complete(signal) {
    this.report("confirming");
    try {
      const media = await this.broker.ask("POST", `${this.mediaId}/complete`, { signal, file: this.file });
      this.memory?.forget();
      this.report("ready", { media });
      return media;
    } catch (error) {
      if (["nothing-uploaded", "parts-missing"].includes(error.code)) error.again = this.transfer.stepIfMissing;
      throw error;
    }
  }

  /** Delete the media, so that the broker does not wait until the policies expire. */
  withdraw() {
    this.memory?.forget();
    this.batch?.leave(this, (mediaId) => this.remove(mediaId));
    if (this.mediaId) this.remove(this.mediaId);
    else this.issuing?.then(({ media_id: mediaId, upload_token: token }) => {
      this.broker.uploadToken = token ?? null;
      this.remove(mediaId);
    }).catch(() => {}); // nothing was issued
  }

  remove(mediaId) {
    this.broker.ask("DELETE", mediaId, { file: this.file }).catch(() => {}); // the sweep expires it
  }

  report(state, more) {
    const { transfer, mediaId } = this;
    const { failures } = this.patience;
    if (state === "retrying" && transfer.inFlight?.size > 0) return; // other parts are on their way
    this.state = state === "sending" && isOffline() ? "offline" : state;
    const measures = this.meter.measure(transfer.loaded, this.state === "sending");
    this.onProgress?.({ state: this.state, ...measures, mediaId, failures, ...more });
  }
}

/** Return a random Idempotency-Key. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
