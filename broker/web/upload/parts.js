/** The bookkeeping of a resumable upload: which parts have arrived, which wait, and the forms of those. */

const RENEW_BEFORE = 10; // seconds; a policy with less time left is not used

/** The parts of a file of `size` bytes. The broker counts them from 1, and the last one may be smaller. */
export class Parts {
  constructor(size, { part_size: partSize, count }) {
    Object.assign(this, { size, partSize, count });
    this.arrived = new Set();
    this.waiting = new Set(Array.from({ length: count }, (_, index) => index + 1));
    this.forms = new Map();
  }

  /** Take over a page of the broker: numbers that have arrived, and forms of others, with the fields that they share. */
  learn({ url, fields, forms, arrived = [], expires_in: expiresIn }) {
    for (const number of arrived) this.arrive(number);
    // By the wall clock, because performance.now() may stop while the device sleeps.
    const until = Date.now() + (expiresIn - RENEW_BEFORE) * 1000;
    for (const { number, fields: own } of forms) this.forms.set(number, { url, fields: { ...fields, ...own }, until });
  }

  /** Return where a part begins in the file, and where the next one does. */
  range(number) {
    const first = (number - 1) * this.partSize;
    return [first, Math.min(first + this.partSize, this.size)];
  }

  /** Return how many bytes S3 has acknowledged. */
  get acknowledged() {
    const unused = this.arrived.has(this.count) ? this.count * this.partSize - this.size : 0;
    return this.arrived.size * this.partSize - unused;
  }

  /** Return the number of the next part to send, which then waits no longer. */
  take() {
    const [number] = this.waiting;
    this.waiting.delete(number);
    return number;
  }

  /** Note that S3 has stored a part. */
  arrive(number) {
    this.arrived.add(number);
    this.waiting.delete(number);
    this.forms.delete(number);
  }

  /** Let a part wait again, because its transfer failed. */
  putBack(number) {
    if (!this.arrived.has(number)) this.waiting.add(number);
  }

  /** Return a part's form, or undefined if there is none whose policy still allows to begin. */
  formOf(number) {
    const form = this.forms.get(number);
    return form && Date.now() < form.until ? form : undefined;
  }
}
