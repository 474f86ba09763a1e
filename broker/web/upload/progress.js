/** The measurement of an upload: bytes, average speed, and the time that is left. */

const SPEED_OVER = 5; // seconds over which the speed is averaged

export class Meter {
  constructor(total) {
    this.total = total;
    this.samples = [];
  }

  /** Return the measures for `loaded` bytes. Only a transfer that `moves` has a speed. */
  measure(loaded, moves) {
    const now = performance.now() / 1000;
    const { samples, total } = this;
    if (loaded < (samples.at(-1)?.loaded ?? 0)) samples.length = 0; // a transfer was cut off
    if (moves) samples.push({ now, loaded });
    while (samples.length > 2 && samples[1].now < now - SPEED_OVER) samples.shift();
    const [first] = samples;
    const bytesPerSecond = first && now > first.now ? (loaded - first.loaded) / (now - first.now) : 0;
    const secondsLeft = bytesPerSecond > 0 ? (total - loaded) / bytesPerSecond : null;
    return { loaded, total, bytesPerSecond, secondsLeft };
  }
}
