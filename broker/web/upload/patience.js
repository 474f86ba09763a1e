/** The pauses between tries: longer after each failure, and until the network is back. Durations are seconds. */

import { delay, online } from "./waiting.js";

const FIRST_DELAY = 1;
const LONGEST_DELAY = 30;

export class Patience {
  /** `attempts` is the number of tries; `report` gets the state, "offline" or "retrying", before each pause. */
  constructor(attempts, report) {
    Object.assign(this, { attempts, report, failures: 0, failedAt: 0 });
  }

  /** Pause before the next try, or throw the error after the last one. `began` is when the failed transfer did. */
  async pause(error, signal, began = Infinity) {
    const { code, after } = error;
    if (code === "offline") {
      this.report("offline");
      return online(LONGEST_DELAY, signal);
    }
    // One drop of the network ends several transfers, and counts once. A running promotion only takes longer.
    if (code !== "promotion-running" && began >= this.failedAt) this.failures += 1;
    this.failedAt = performance.now();
    if (this.failures >= this.attempts) throw error;
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** (this.failures - 1));
    const seconds = after + Math.random() * longest;
    this.report("retrying", { error, delay: seconds });
    return delay(seconds, signal);
  }

  /** Note a success: what failed before is no reason to give up. */
  reset() {
    this.failures = 0;
  }
}
