/** Several files that were chosen at once: their uploads are issued by one request. */

import { brokerRefusal } from "./errors.js";
import { Patience } from "./patience.js";
import { until } from "./waiting.js";

export const MOST = 100; // the number of uploads in one request; the most that the broker allows
const FREED = new Set(["pending_count", "promised_bytes"]); // quotas that grow again as the files before are completed
const ALONE = new Set([404, 405, 413, 422]); // refusals of the request itself; each upload then asks on its own

export class Batch {
  /** Ask for `uploads`, which wait for their answers, with an Idempotency-Key. */
  constructor(uploads, key) {
    Object.assign(this, { uploads, key, members: [], left: new Set(), stop: new AbortController() });
    for (const upload of uploads) upload.batch = this;
    this.answers = this.issue();
    this.answers.catch(() => {}); // each upload rejects with it
  }

  /** Return the broker's answers, in the order of `members`; none if the uploads should ask on their own. */
  async issue() {
    const { uploads, key, stop } = this;
    const waiting = uploads.filter(({ signal }) => !signal?.aborted);
    await Promise.allSettled(waiting.map((upload) => upload.recall())); // one that fails asks on its own
    this.members = waiting.filter((upload) => upload.next === "issue" && !this.left.has(upload));
    for (const upload of this.left) upload.memory?.release();
    const { members } = this;
    if (members.length < 2) return [];
    const [{ broker, attempts }] = members;
    const report = (...state) => members.forEach((upload) => upload.paused || this.left.has(upload) || upload.report(...state));
    const patience = new Patience(attempts, report);
    const body = { uploads: members.map((upload) => upload.request()) };
    for (;;) {
      report("asking");
      try {
        const headers = { "Idempotency-Key": key };
        return (await broker.ask("POST", "uploads", { headers, body, signal: stop.signal })).uploads;
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

  /** Return the broker's answer for an upload, or undefined if it should ask on its own. Rejects with its refusal. */
  async answerFor(upload, signal) {
    await until(signal, (resolve) => void this.answers.then(resolve, resolve));
    const answer = (await this.answers)[this.members.indexOf(upload)];
    if (FREED.has(answer?.quota)) return undefined;
    if (answer?.success === false) throw brokerRefusal(answer.status, answer, { file: upload.file, after: answer.retry_after });
    return answer;
  }

  /** Leave out a cancelled upload, and call `remove` with the id of its media if one was issued. */
  leave(upload, remove) {
    this.left.add(upload);
    if (this.left.size === this.uploads.length) this.stop.abort(upload.signal.reason);
    const place = this.members.indexOf(upload);
    this.answers.then((answers) => answers[place]?.media_id && remove(answers[place].media_id), () => {});
  }
}
