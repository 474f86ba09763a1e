/** The two ways of a file to S3: by one form, or in parts. */

import { UploadError } from "./errors.js";
import { Dropped, diagnosis, post } from "./form.js";
import { Lanes } from "./lanes.js";
import { limitTo } from "./waiting.js";

const RENEW_BEFORE = 10; // seconds; a policy with less time left is renewed before sending
const AT_ONCE = 4; // parts of an upload, and of all uploads of the page, since browsers open six connections to an origin
const transfers = limitTo(AT_ONCE);

/** The transfer of a whole file by one form. A drop loses all of it. */
export class WholeFile {
  constructor(upload) {
    this.upload = upload;
    this.diagnose = diagnosis();
    this.loaded = 0;
    this.moved = false; // whether a byte was ever sent
    this.answered = false; // whether S3 confirmed that it stored the file
  }

  /** Use the form that the broker issued. A fresh one is sent at once, however short its policy lives. */
  renew({ upload: form, expires_in: expiresIn, max_size: maxSize }, { isFresh }) {
    Object.assign(this, { form, maxSize, isFresh, renewAt: Date.now() + (expiresIn - RENEW_BEFORE) * 1000 });
  }

  /** Send the file, and return the next step. */
  async send(signal) {
    const { upload, form, maxSize, isFresh } = this;
    if (!isFresh && Date.now() > this.renewAt) return "issue";
    this.isFresh = false;
    const onLoaded = (loaded) => {
      this.loaded = loaded;
      this.moved ||= loaded > 0;
      upload.report("sending");
    };
    this.answered = false;
    onLoaded(0);
    try {
      await post(form, upload.file, { signal, onLoaded, maxSize });
      this.answered = true;
      return "complete";
    } catch (failure) {
      const facts = { signal, moved: this.moved };
      const error = failure instanceof Dropped ? await this.diagnose(failure, upload.file, form.url, facts) : failure;
      if (error.again !== "complete") this.loaded = 0;
      throw error;
    }
  }

  /** Return the step after the broker found nothing: S3 may show late what it has confirmed. */
  get stepIfMissing() {
    return this.answered ? "same" : "send";
  }
}

/** The transfer of a file in parts. A drop loses the parts in flight. */
export class InParts {
  constructor(upload, parts) {
    Object.assign(this, { upload, parts });
    this.diagnose = diagnosis();
    this.lanes = new Lanes(AT_ONCE);
    this.moved = false; // whether a byte was ever sent
    this.inFlight = new Map(); // bytes that were sent, by the number of the part
    this.stepIfMissing = "catchUp";
    this.fetching = null;
  }

  /** The bytes that S3 has acknowledged, and those of the parts in flight. */
  get loaded() {
    let bytes = this.parts.acknowledged;
    for (const loaded of this.inFlight.values()) bytes += loaded;
    return bytes;
  }

  /** Send the missing parts, and return the next step. */
  async send(signal) {
    const { parts, lanes, upload } = this;
    const active = new Set();
    const start = (number) => {
      const part = this.sendPart(number, signal).finally(() => active.delete(part));
      part.catch(() => {}); // of several failures, the first is reported
      active.add(part);
    };
    try {
      while (parts.waiting.size + active.size > 0) {
        while (parts.waiting.size > 0 && active.size < lanes.count) start(parts.take());
        await Promise.race(active);
      }
      return "complete";
    } catch (error) {
      upload.turn.abort(error); // ends the other parts, too, and is why `decide` throws this error without another try
      await Promise.allSettled(active); // each puts its part back
      throw error;
    }
  }

  async sendPart(number, signal) {
    const { parts, lanes, upload } = this;
    const { count } = lanes;
    const began = performance.now();
    let leave;
    try {
      leave = await transfers.enter(signal);
      const form = await this.formOf(number, signal);
      if (form) {
        const sentAt = performance.now();
        await this.post(number, form, signal);
        lanes.acknowledged((performance.now() - sentAt) / 1000, count);
      }
      parts.arrive(number);
      upload.progressed();
    } catch (error) {
      leave?.(); // others may use the place while this one waits
      parts.putBack(number);
      signal.throwIfAborted();
      lanes.dropped();
      if (["issue", "complete"].includes(error.again)) parts.forms.delete(number); // the broker says whether it arrived
      if (error.again) error.again = error.again === "anew" ? null : "same";
      await upload.decide(error, signal, began);
    } finally {
      leave?.();
    }
  }

  async post(number, form, signal) {
    const { upload, inFlight } = this;
    const part = upload.file.slice(...this.parts.range(number));
    const onLoaded = (loaded) => {
      inFlight.set(number, loaded);
      this.moved ||= loaded > 0;
      upload.report("sending");
    };
    onLoaded(0);
    try {
      await post(form, part, { signal, onLoaded, maxSize: upload.file.size });
    } catch (failure) {
      const facts = { signal, moved: this.moved };
      throw failure instanceof Dropped ? await this.diagnose(failure, part, form.url, facts) : failure;
    } finally {
      inFlight.delete(number);
    }
  }

  /** Return a part's form, or undefined if the part has arrived. */
  async formOf(number, signal) {
    const { parts, upload } = this;
    while (this.fetching) await this.fetching.catch(() => {}); // of another part; it may bring this form, too
    if (parts.arrived.has(number) || parts.formOf(number)) return parts.formOf(number);
    parts.forms.delete(number); // it has expired, or does so too soon
    this.fetching = upload.fetchForms(number, signal).finally(() => (this.fetching = null));
    await this.fetching;
    const form = parts.forms.get(number); // sent at once, however short its policy lives
    if (!form && !parts.arrived.has(number))
      throw new UploadError("no-form", `The broker issued no form for part ${number}.`, "", { again: "same" });
    return form;
  }
}
