/** Several files that were chosen at once: their uploads are issued by one request. */

import { brokerRefusal } from "./errors.js";
import { Patience } from "./patience.js";
import { settled } from "./waiting.js";

export const MAX_UPLOADS = 100; // in one request; the most that the broker allows
const FREED = new Set(["pending_count", "promised_bytes"]); // quotas that grow again as the files before are completed
const ALONE = new Set([404, 405, 413, 422]); // refusals of the request itself; each upload then asks on its own

export class Batch {
  /** Ask for `uploads`, which wait for their answers, with an Idempotency-Key. */
  constructor(uploads, key) {
    Object.assign(this, { uploads, key, cancelled: new Set(), stop: new AbortController() });
    for (const upload of uploads) upload.batch = this;
    this.members = this.choose();
    this.answers = this.members.then((members) => (members.length > 1 ? this.issue(members) : []));
    this.answers.catch(() => {}); // each member rejects with it
  }

  /** Return the uploads that need the request: those that go on with what this browser remembers do not. */
  async choose() {
    const { uploads, cancelled } = this;
    const first = uploads.find(({ resumable, owner }) => resumable && owner === undefined);
    await first?.recall().catch(() => {}); // it is tried again in its own turn, and so are the others
    for (const upload of uploads) upload.owner ??= first?.owner; // one token tells the owner of all
    await Promise.allSettled(uploads.filter((upload) => upload !== first).map((upload) => upload.recall()));
    for (const upload of cancelled) upload.memory?.release();
    return uploads.filter((upload) => upload.next === "issue" && !cancelled.has(upload));
  }

  /** Return the broker's answers, in the order of `members`; none if the uploads should ask on their own. */
  async issue(members) {
    const { key, stop } = this;
    const [{ broker, attempts }] = members;
    const report = (...state) => members.forEach((upload) => this.report(upload, ...state));
    const patience = new Patience(attempts, report);
    const request = { headers: { "Idempotency-Key": key }, body: { uploads: members.map((upload) => upload.request()) } };
    for (;;) {
      report("asking");
      try {
        const { uploads } = await broker.ask("POST", "uploads", { ...request, signal: stop.signal });
        this.answeredAt = Date.now();
        const unclear = uploads.find(isUnclear);
        if (!unclear || patience.failures + 1 >= attempts) return uploads;
        throw refusalOf(unclear);
      } catch (error) {
        stop.signal.throwIfAborted();
        if (ALONE.has(error.status)) return [];
        if (!error.again) throw error;
        await patience.pause(error, stop.signal).catch((last) => {
          throw Object.assign(last, { again: null }); // the tries of each upload are used up
        });
      }
    }
  }

  /** Report a state of a member. What its listener throws fails this member alone, in its own turn. */
  report(upload, ...state) {
    if (upload.paused || this.cancelled.has(upload)) return;
    try {
      upload.report(...state);
    } catch {
      // the next report throws again
    }
  }

  /** Return the broker's answer for an upload, or undefined if it should ask on its own. Rejects with its refusal. */
  async answerFor(upload, signal) {
    const place = (await settled(this.members, signal)).indexOf(upload);
    if (place < 0) return undefined;
    const answer = (await settled(this.answers, signal))[place];
    if (!answer || FREED.has(answer.quota)) return undefined;
    if (answer.success === false) throw refusalOf(answer, upload.file);
    const passed = (Date.now() - this.answeredAt) / 1000; // a paused upload comes late
    return { ...answer, expires_in: answer.expires_in - passed };
  }

  /** Leave out a cancelled upload, and call `remove` with the id of its media if one was issued. */
  async leave(upload, remove) {
    this.cancelled.add(upload);
    if (this.cancelled.size === this.uploads.length) this.stop.abort(upload.signal.reason);
    const place = (await this.members).indexOf(upload);
    const issued = (await this.answers.catch(() => []))[place];
    if (issued?.media_id) remove(issued.media_id);
  }
}

/** Return whether the broker may have issued the upload: then only the same request with the same key finds out. */
const isUnclear = ({ success, status, type = "" }) =>
  success === false && (status >= 500 || type.endsWith("idempotency-key-in-flight"));

const refusalOf = (answer, file) => brokerRefusal(answer.status, answer, { file, after: answer.retry_after });
