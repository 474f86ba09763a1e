/**
 * Uploads of videos straight from a browser to S3, through the broker.
 *
 * The broker signs a form, this module posts the file to the bucket with it, and the broker confirms the upload.
 * Temporary failures are retried; any other failure becomes an `UploadError` that states its cause and its fix.
 */

const ATTEMPTS = 8;

// Seconds.
const FIRST_DELAY = 1;
const LONGEST_DELAY = 30;
const STALLED_AFTER = 60; // without progress for so long, a transfer counts as dropped
const ANSWER_WITHIN = 120; // timeout of the broker's answer, and of S3's after the last byte
const RENEW_BEFORE = 10; // a policy with less time left is renewed before sending
const SPEED_OVER = 5; // the window over which speed is averaged
// A bundle that is no module has no import.meta.url; its worker is then beside the script that is loading now.
const HERE = import.meta.url?.replace(/[^/]*$/, "");
const SCRIPT = globalThis.document?.currentScript?.src;
// video types: drawn by `make readme` from broker/domain/video_types.py; each row has a name, its extensions, its aliases
const TYPES = [
  ["video/mp4", ["mp4", "f4v"], ["application/mp4", "video/mp4v-es", "video/x-mp4"]],
  ["video/webm", ["webm"], []],
  ["video/quicktime", ["mov", "qt"], ["video/mov", "video/x-quicktime"]],
  ["video/x-matroska", ["mkv"], ["video/matroska", "video/mkv", "video/x-mkv", "application/x-matroska"]],
  ["video/mpeg", ["mpg", "mpeg", "mpe", "m1v", "m2v", "vob"], ["video/mpg", "video/x-mpeg", "video/x-mpeg2", "video/mpeg-system", "video/x-mpeg-system"]],
  ["video/3gpp", ["3gp", "3gpp"], ["video/3gp"]],
  ["video/3gpp2", ["3g2", "3gp2", "3gpp2"], ["video/3g2"]],
  ["video/x-m4v", ["m4v"], ["video/m4v"]],
  ["video/ogg", ["ogv"], ["video/x-ogg"]],
  ["video/x-msvideo", ["avi", "divx"], ["video/avi", "video/msvideo", "video/vnd.avi", "video/x-avi", "video/divx", "video/vnd.divx"]],
  ["video/mp2t", ["ts", "mts", "m2ts", "m2t"], ["video/mp2ts", "video/m2ts", "video/vnd.dlna.mpeg-tts", "video/x-mpegts"]],
];
// end of the video types

/** A failed upload: its cause (`what`), its fix (`cure`), and the step to retry from (`again`), or null if none helps. */
export class UploadError extends Error {
  constructor(code, what, cure = "", { again = null, after = 0, status = 0, problem = null, cause } = {}) {
    super(cure ? `${what} ${cure}` : what, { cause });
    Object.assign(this, { name: "UploadError", code, what, cure, again, after, status, problem });
  }
}

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
        await new Promise((resolve, reject) => {
          const quit = () => {
            waiting.delete(resolve);
            reject(signal.reason);
          };
          signal?.addEventListener("abort", quit, { once: true });
          waiting.add(resolve);
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

const shared = limitTo(3);

/** Return the file's video type by its usual name; by its extension if the browser's type is not a known video type. */
export function contentTypeOf(file) {
  const type = (file.type ?? "").split(";")[0].trim().toLowerCase();
  const extension = (file.name ?? "").split(".").pop().toLowerCase();
  const row = TYPES.find(([name, , aliases]) => name === type || aliases.includes(type))
    ?? TYPES.find(([, extensions]) => extensions.includes(extension));
  return row?.[0] ?? (file.type || "application/octet-stream");
}

/** Upload one file; resolve to the ready media, or reject with an UploadError or with the signal's reason. */
export async function upload(file, options) {
  const { signal, limit = shared } = options;
  signal?.throwIfAborted();
  const task = new Upload(file, options);
  task.report("waiting");
  const leave = await limit.enter(signal);
  try {
    return await task.run();
  } finally {
    leave();
  }
}

class Upload {
  constructor(file, options) {
    const { prefix = HERE, attempts = ATTEMPTS, idempotencyKey = newKey() } = options;
    const { getToken, onProgress, signal, checksum, filename, durationSeconds, metadata } = options;
    Object.assign(this, { file, getToken, onProgress, signal, attempts, key: idempotencyKey });
    this.checksum = checksum || undefined;
    this.description = { filename: filename ?? file.name, duration_seconds: durationSeconds, metadata };
    if (!prefix) throw new TypeError("The option `prefix` is required, because this bundle does not know the broker's address.");
    this.prefix = String(new URL(prefix, globalThis.location?.href)).replace(/\/*$/, "/");
    this.next = "issue"; // then "send", then "complete"
    this.issued = null;
    this.answered = false; // whether S3 confirmed that it stored the file
    this.loaded = 0;
    this.failures = this.preflightFailures = 0;
    this.samples = [];
  }

  async run() {
    try {
      if (this.checksum === true) {
        this.report("checking");
        this.checksum = await sha256(this.file, this.signal);
      }
      for (;;) {
        try {
          return await this.attempt();
        } catch (error) {
          await this.decide(error);
        }
      }
    } catch (error) {
      if (this.signal?.aborted) this.withdraw();
      throw error;
    }
  }

  async attempt() {
    this.signal?.throwIfAborted();
    if (this.next !== "complete") {
      if (this.next === "issue" || performance.now() > this.issued.renewAt) await this.issue();
      if (this.next === "send") await this.send();
    }
    return this.complete();
  }

  /** Wait before the next try, or throw the error if no retry can help. */
  async decide(error) {
    this.signal?.throwIfAborted();
    if (error.code !== "promotion-running") this.failures += 1; // it only takes longer
    if (!error.again || this.failures >= this.attempts) throw error;
    if (error.again === "anew") this.key = newKey();
    this.next = error.again === "anew" ? "issue" : error.again;
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** (this.failures - 1)); // seconds
    const delay = error.after + Math.random() * longest;
    this.report("retrying", { error, delay });
    await pause(delay, this.signal);
  }

  async issue() {
    this.report("asking");
    const { file, description, checksum } = this;
    const wish = { content_type: contentTypeOf(file), size: file.size, ...description, checksum_sha256: checksum };
    const answer = await this.ask("POST", "upload", { "Idempotency-Key": this.key }, JSON.stringify(wish));
    this.issued = { ...answer, renewAt: performance.now() + (answer.expires_in - RENEW_BEFORE) * 1000 };
    this.mediaId = answer.media_id;
    this.next = answer.upload ? "send" : "complete"; // null: this key's file has already arrived
  }

  /** Post the form to the bucket, by XMLHttpRequest because fetch reports no upload progress. */
  send() {
    const { method, url, fields, headers } = this.issued.upload;
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", this.file, "file"); // S3 ignores fields after the file
    this.answered = false;
    this.loaded = 0;
    this.samples = [];
    this.report("sending");
    return new Promise((resolve, reject) => {
      this.signal?.throwIfAborted();
      const xhr = new XMLHttpRequest();
      const abort = () => xhr.abort();
      let watch;
      const moved = () => {
        clearTimeout(watch);
        watch = setTimeout(abort, (this.loaded < this.file.size ? STALLED_AFTER : ANSWER_WITHIN) * 1000);
      };
      xhr.upload.onprogress = ({ loaded, total }) => {
        this.loaded = Math.max(0, this.file.size - (total - loaded)); // without the size of the form's other fields
        moved();
        this.report("sending");
      };
      xhr.onload = () => {
        this.answered = xhr.status < 300;
        this.answered ? resolve() : reject(s3Refusal(xhr.status, xhr.responseText, this.issued.max_size));
      };
      xhr.onerror = xhr.onabort = () =>
        this.signal?.aborted ? reject(this.signal.reason) : resolve(this.diagnose(url));
      xhr.onloadend = () => {
        clearTimeout(watch);
        this.signal?.removeEventListener("abort", abort);
      };
      this.signal?.addEventListener("abort", abort, { once: true });
      xhr.open(method, url);
      for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
      xhr.send(form);
      moved();
    });
  }

  async complete() {
    this.next = "complete";
    this.report("confirming");
    try {
      const media = await this.ask("POST", `${this.mediaId}/complete`);
      this.report("ready");
      return media;
    } catch (error) {
      if (error.code === "nothing-uploaded" && !this.answered) error.again = "send";
      if (error.status === 410) error.again = "anew";
      throw error;
    }
  }

  /** Send one request to the broker and return its answer; after a 401, retry once with a fresh token. */
  async ask(method, path, headers = {}, body = undefined) {
    for (let renewed = false; ; renewed = true) {
      const token = await this.getToken({ renewed });
      const sent = { ...headers, Authorization: `Bearer ${token}` };
      if (body) sent["Content-Type"] = "application/json";
      const { signal, release } = deadline(ANSWER_WITHIN, this.signal);
      let response, answer;
      try {
        response = await fetch(this.prefix + path, { method, headers: sent, body, signal, cache: "no-store" });
        answer = await response.json().catch(() => ({}));
      } catch (cause) {
        this.signal?.throwIfAborted();
        throw unreachable("The broker", this.prefix, { again: this.next, cause });
      } finally {
        release();
      }
      if (response.ok && answer.media_id) return answer;
      if (response.ok)
        throw new UploadError("not-a-broker", `${this.prefix} is not the address of a broker.`, "Check the prefix.");
      if (response.status !== 401 || renewed) throw brokerRefusal(response, answer, this.next, this.file);
    }
  }

  /** Throw the most likely reason for a transfer without an answer. */
  async diagnose(url) {
    try {
      await this.file.slice(0, 1).arrayBuffer();
    } catch (cause) {
      throw new UploadError("file_gone", "The file can no longer be read.", "Choose it again.", { cause });
    }
    if (this.loaded >= this.file.size) throw unreachable("S3", url, { again: "complete" });
    // A failed preflight sends no byte and gives this page no reason. A request in mode no-cors then shows whether the
    // bucket can be reached at all.
    const isReachable = () => fetch(url, { mode: "no-cors", cache: "no-store" }).then(() => true, () => false);
    this.preflightFailures = this.loaded === 0 && (await isReachable()) ? this.preflightFailures + 1 : 0;
    if (this.preflightFailures < 2) throw unreachable("S3", url, { again: "send" });
    const origin = globalThis.location?.origin;
    throw new UploadError("cors", `Your bucket's CORS does not list this origin (${origin}).`,
      `Add it to AllowedOrigins of ${new URL(url).origin}, with AllowedMethods POST and ExposeHeaders ETag, Location.`);
  }

  /** Delete the media, so that the broker does not wait until the policy expires. */
  withdraw() {
    if (!this.mediaId) return;
    this.signal = undefined;
    this.ask("DELETE", this.mediaId).catch(() => {}); // the sweep expires it later
  }

  report(state, more = {}) {
    const now = performance.now() / 1000;
    const { loaded, file, mediaId, failures } = this;
    if (state === "sending") this.samples.push({ now, loaded });
    while (this.samples.length > 2 && this.samples[1].now < now - SPEED_OVER) this.samples.shift();
    const [first] = this.samples;
    const bytesPerSecond = first && now > first.now ? (loaded - first.loaded) / (now - first.now) : 0;
    const secondsLeft = bytesPerSecond > 0 ? (file.size - loaded) / bytesPerSecond : null;
    this.onProgress?.({ state, loaded, total: file.size, bytesPerSecond, secondsLeft, mediaId, failures, ...more });
  }
}

/** Return a size for display, such as `100 MB`. */
export function inWords(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : Number(bytes.toFixed(1))} ${units[unit]}`;
}

const tooLarge = (maxSize) => `The file is larger than ${inWords(maxSize)}.`;
const OPERATOR = "The operator should run `broker doctor`.";

/** Return the error for a response of S3. The codes are those of the S3 API Reference, "Error responses". */
function s3Refusal(status, xml, maxSize) {
  const [, code = `HTTP ${status}`] = /<Code>([^<]*)<\/Code>/.exec(xml) ?? [];
  const [, message = ""] = /<Message>([^<]*)<\/Message>/.exec(xml) ?? [];
  const error = (what, cure, again) => new UploadError(code, what, cure, { status, again });
  if (code === "AccessDenied" && /expired/i.test(message))
    return error("The permission to upload has expired.", "Start the upload again.", "issue");
  if (code === "EntityTooLarge") return error(tooLarge(maxSize), "Choose a smaller one.");
  if (code === "EntityTooSmall") return error("The file has become smaller since it was chosen.", "Choose it again.");
  if (code === "BadDigest") return error("The file was changed or damaged during the upload.", "Choose it again.", "send");
  if (status >= 500 || status === 429 || ["SlowDown", "RequestTimeout"].includes(code))
    return error(`S3 is busy (${code}).`, "Try again in a few minutes.", "send");
  return error(`S3 refused the upload (${code}${message && `: ${message}`}).`, OPERATOR);
}

function brokerRefusal(response, problem, step, file) {
  const { status } = response;
  const code = problem.type?.split(/[/:#]/).pop() ?? `HTTP ${status}`;
  const retried = status >= 500 || [408, 409, 425, 429].includes(status);
  const again = status === 410 ? "anew" : retried ? step : null;
  const after = Number(response.headers.get("Retry-After")) || 0;
  const facts = { status, problem, after, again };
  if (problem.max_size && file.size > problem.max_size)
    return new UploadError(code, tooLarge(problem.max_size), "Choose a smaller one.", facts);
  return new UploadError(code, problem.detail ?? problem.title ?? `The broker answered ${status}.`, "", facts);
}

function unreachable(service, url, facts) {
  if (globalThis.navigator?.onLine === false)
    return new UploadError("offline", "This device is offline.", "Connect it and try again.", facts);
  const { origin } = new URL(url);
  return new UploadError("unreachable", `${service} could not be reached at ${origin}.`,
    `Check the connection. If it works, check that ${origin} allows this page's origin (CORS), and that this page's `
    + `Content-Security-Policy allows ${origin} (connect-src).`, facts);
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return a signal that aborts with `signal` or after `seconds`. Safari before 17.4 has no AbortSignal.any. */
function deadline(seconds, signal) {
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

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** Return the file's SHA-256 in base64, computed in chunks by a worker. */
async function sha256(file, signal) {
  const base = import.meta.url ?? SCRIPT;
  if (!base)
    throw new UploadError("checksum", "This bundle does not know the address of sha256-worker.js.",
      "Load the bundle by a script element with src, or as a module.");
  const url = new URL("./sha256-worker.js", base);
  // A worker's script must have the page's origin. If this module has another, a blob of the page's origin imports it.
  const foreign = url.origin !== globalThis.location.origin;
  const start = foreign && URL.createObjectURL(new Blob([`import "${url}";`], { type: "text/javascript" }));
  // Bundlers recognize the last form only, word for word.
  const worker = foreign || !import.meta.url
    ? new Worker(start || url, { type: "module" })
    : new Worker(new URL("./sha256-worker.js", import.meta.url), { type: "module" });
  try {
    return await new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      worker.onmessage = ({ data }) =>
        data.digest ? resolve(data.digest) : reject(new UploadError("file_gone", data.error, "Choose it again."));
      worker.onerror = () => reject(new UploadError("checksum", "The worker that computes the checksum could not be started."));
      worker.postMessage(file);
    });
  } finally {
    worker.terminate();
    if (start) URL.revokeObjectURL(start);
  }
}
