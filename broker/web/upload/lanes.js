/**
 * The number of parts to send at a time.
 *
 * A part that is cut off is sent again from its start, so parts in flight are what a drop of the network costs; and on a
 * link that is full already, more of them make nothing faster. So the number starts at one. It grows while parts take
 * less than a second, or while one more lane raises the number of parts per second. A drop sets it back to one.
 */

const FAST = 1; // seconds
const REST = 8; // the number of parts until one more lane is tried again

export class Lanes {
  constructor(most) {
    this.most = most;
    this.count = 1;
    this.paces = []; // parts per second, by the number of lanes
    this.rest = 0;
  }

  /** Learn from a part that took `seconds` and began with `lanes` lanes. */
  acknowledged(seconds, lanes) {
    if (this.rest > 0) {
      this.rest -= 1;
      return;
    }
    if (lanes !== this.count) return;
    this.paces[lanes] = lanes / seconds;
    if (seconds < FAST || this.pays(lanes)) this.count = Math.min(lanes + 1, this.most);
    else Object.assign(this, { count: lanes - 1, paces: [], rest: REST });
  }

  /** Return whether the last of these lanes brought half of what it could bring at best. */
  pays(lanes) {
    if (lanes === 1) return true;
    const enough = (1 + lanes / (lanes - 1)) / 2;
    return this.paces[lanes] >= enough * (this.paces[lanes - 1] ?? 0);
  }

  /** Learn that the connection broke. */
  dropped() {
    Object.assign(this, { count: 1, paces: [], rest: REST });
  }
}
