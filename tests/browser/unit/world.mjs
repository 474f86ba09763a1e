/** Scripted servers for the helper: the answers of the broker and S3, in order, and a record of the requests. */

const PREFIX = "https://api.example/api/v1/s3-media";
export const BUCKET = "https://bucket.s3.eu-west-1.amazonaws.com/";

/** Install a page's globals; `answers` maps "upload", "parts", "complete", "DELETE" and "s3" to their coming answers. */
export function world(answers, { bucketIsThere = true, onLine = true } = {}) {
  const steps = [];
  const requests = [];
  const next = (step) => {
    steps.push(step);
    const answer = answers[step]?.shift();
    if (answer === undefined) throw new Error(`there was an unexpected ${step}`);
    return answer;
  };
  let jitter = Math.random;
  Math.random = () => 0; // a delay is then exactly Retry-After
  const navigator = { onLine };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  globalThis.location = { origin: "https://app.example", href: "https://app.example/" };
  globalThis.fetch = async (url, { method = "GET", headers, body, signal, mode } = {}) => {
    if (mode === "no-cors") {
      steps.push("probe");
      if (!bucketIsThere) throw new TypeError("Failed to fetch");
      return new Response();
    }
    signal?.throwIfAborted();
    const path = String(url).slice(PREFIX.length + 1);
    const step = method === "DELETE" ? "DELETE" : path.split("/").at(-1).split("?")[0];
    requests.push({ step, path, headers, body: body && JSON.parse(body) });
    const answer = next(step);
    if (answer === "drop") throw new TypeError("Failed to fetch");
    if (answer === "cut") return cut();
    return Response.json(answer.body, { status: answer.status, headers: answer.headers });
  };
  globalThis.XMLHttpRequest = class {
    upload = {};
    headers = {};
    open(method, url) {
      Object.assign(this, { method, url });
    }
    setRequestHeader(name, value) {
      this.headers[name] = value;
    }
    send(form) {
      const answer = next("s3");
      const { url, headers } = this;
      requests.push({ step: "s3", url, headers, form: [...form] });
      queueMicrotask(() => this.#play(answer, 1000 + form.get("file").size));
    }
    abort() {
      steps.push("abort");
      this.onabort();
      this.onloadend();
    }
    #play({ sent = 0, status, xml = "" }, total) {
      if (sent) this.upload.onprogress({ loaded: sent * total, total });
      if (status === "hang") return;
      Object.assign(this, { status, responseText: xml });
      (status ? this.onload : this.onerror)();
      this.onloadend();
    }
  };
  return {
    steps,
    requests,
    options: { prefix: PREFIX, getToken: () => "token" },
    end: () => (Math.random = jitter),
    goOnline: ({ isReally = true } = {}) => {
      navigator.onLine = isReally;
      page.dispatchEvent(new Event("online"));
    },
  };
}

/** An answer whose connection breaks after its header. */
export const cut = () => new Response(new ReadableStream({ start: (body) => body.error(new TypeError("network error")) }));
export const issued = (more = {}) => ({
  status: 201,
  body: {
    media_id: "m1",
    upload: { method: "POST", url: BUCKET, fields: { key: "staging/a", "Content-Type": "video/mp4" }, headers: {} },
    expires_in: 900,
    max_size: 100_000_000,
    ...more,
  },
});
export const PART = 1000; // bytes
const forms = (numbers) => numbers.map((number) => ({ number, size: PART, fields: { key: `staging/a/${number}` } }));
const partsOf = (count, numbers, arrived) => ({
  url: BUCKET, part_size: PART, count, fields: { "Content-Type": "video/mp4" }, forms: forms(numbers), arrived, next_from: null,
});
/** The answer to a resumable upload of `count` parts, with the forms of those in `numbers`. */
export const issuedParts = (count, numbers, more = {}) => issued({
  upload: null,
  parts: partsOf(count, numbers, []),
  upload_expires_at: new Date(Date.now() + 86_400_000).toISOString(),
  ...more,
});
/** The answer to a request for parts: forms of those in `numbers`; others have arrived. */
export const parts = (count, numbers, arrived = [], more = {}, expiresIn = 900) => ({
  status: 200,
  body: { media_id: "m1", expires_in: expiresIn, parts: { ...partsOf(count, numbers, arrived), ...more } },
});
/** A Storage as of a browser. */
export const storage = () => {
  const items = {};
  const define = (name, value) => Object.defineProperty(items, name, { value, enumerable: false });
  define("getItem", (key) => items[key] ?? null);
  define("setItem", (key, value) => void (items[key] = String(value)));
  define("removeItem", (key) => void delete items[key]);
  return items;
};
export const ready = () => ({ status: 200, body: { media_id: "m1", status: "ready" } });
export const problem = (status, type, more = {}, headers = {}) => ({
  status,
  headers,
  body: { type: `about/${type}`, title: type, status, detail: `${type}!`, success: false, ...more },
});
export const stored = { status: 201, sent: 1 };
export const dropped = { status: 0, sent: 0.5 };
export const answerLost = { status: 0, sent: 1 };
export const silent = { status: 0 };
export const hangs = { status: "hang", sent: 0.5 };
export const refused = (status, code, message = "") => ({
  status,
  xml: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
});
