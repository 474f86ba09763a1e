/** Waiting that a signal ends: for a place, a delay, the network, or an answer. Durations are seconds. */

/** Return a limit of `count` concurrent uploads; `enter` resolves to the function that frees its place. */
export function limitTo(count) {
  const waiting = new Set();
  let running = 0;
  const leave = () => {
    running -= 1;
    const [next] = waiting;
    waiting.delete(next);
    next?.();
  };
  return {
    async enter(signal) {
      while (running >= count) {
        await until(signal, (resolve) => {
          waiting.add(resolve);
          return () => waiting.delete(resolve);
        });
      }
      running += 1;
      let inside = true;
      return () => {
        if (inside) leave();
        inside = false;
      };
    },
  };
}

/** Resolve when `start` calls its argument; reject with the signal's reason. `start` may return a function that stops. */
export function until(signal, start) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let stop;
    const end = (settle) => (value) => {
      signal?.removeEventListener("abort", abort);
      stop?.();
      settle(value);
    };
    const abort = () => end(reject)(signal.reason);
    signal?.addEventListener("abort", abort);
    stop = start(end(resolve));
  });
}

/** Settle as `promise` does, or reject once the signal is aborted. */
export function settled(promise, signal) {
  return until(signal, (resolve) => void promise.then(resolve, resolve)).then(() => promise);
}

/** Resolve after some seconds. */
export function delay(seconds, signal) {
  return until(signal, (resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    return () => clearTimeout(timer);
  });
}

/** Resolve once the device is online again, or after some seconds, since not every system announces its network. */
export function online(seconds, signal) {
  return until(signal, (resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    globalThis.addEventListener?.("online", resolve);
    return () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", resolve);
    };
  });
}

/** Return a signal that aborts with `signal` or after some seconds. Safari before 17.4 has no AbortSignal.any. */
export function deadline(seconds, signal) {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  const timer = setTimeout(() => controller.abort(), seconds * 1000);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  const release = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  };
  return { signal: controller.signal, release };
}
