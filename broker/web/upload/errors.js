/** The errors of an upload: each states its cause and its fix, and the step to retry from. */

/**
 * A failed upload: its cause (`what`), its fix (`cure`), and the step to retry from (`again`), or null if none helps.
 *
 * The steps are those of `Upload`; "same" repeats the failed step, and "anew" starts another media.
 */
export class UploadError extends Error {
  constructor(code, what, cure = "", { again = null, after = 0, status = 0, problem = null, cause } = {}) {
    super(cure ? `${what} ${cure}` : what, { cause });
    Object.assign(this, { name: "UploadError", code, what, cure, again, after, status, problem });
  }
}

/** Return a size for display, such as `100 MB`. */
export function inWords(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : Number(bytes.toFixed(1))} ${units[unit]}`;
}

const tooLarge = (maxSize) => `The file is larger than ${inWords(maxSize)}.`;
const OPERATOR = "The operator should run `broker doctor`.";

/** Return the error for a response of S3. The codes are those of the S3 API Reference, "Error responses". */
export function s3Refusal(status, xml, maxSize) {
  const [, code = `HTTP ${status}`] = /<Code>([^<]*)<\/Code>/.exec(xml) ?? [];
  const [, message = ""] = /<Message>([^<]*)<\/Message>/.exec(xml) ?? [];
  const error = (what, cure, again) => new UploadError(code, what, cure, { status, again });
  if (code === "ExpiredToken" || (code === "AccessDenied" && /expired/i.test(message)))
    return error("The permission to upload has expired.", "Start the upload again.", "issue");
  if (code === "EntityTooLarge") return error(tooLarge(maxSize), "Choose a smaller one.");
  if (code === "EntityTooSmall") return error("The file has become smaller since it was chosen.", "Choose it again.");
  if (code === "BadDigest") return error("The file was changed or damaged during the upload.", "Choose it again.", "send");
  if (status >= 500 || status === 429 || ["SlowDown", "RequestTimeout"].includes(code))
    return error(`S3 is busy (${code}).`, "Try again in a few minutes.", "send");
  return error(`S3 refused the upload (${code}${message && `: ${message}`}).`, OPERATOR);
}

/** Return the error for an RFC 9457 problem of the broker; a retry may begin `after` so many seconds. */
export function brokerRefusal(status, problem, { file, after }) {
  const code = problem.type?.split(/[/:#]/).pop() ?? `HTTP ${status}`;
  const retried = status >= 500 || [408, 409, 425, 429].includes(status);
  const again = status === 410 ? "anew" : retried ? "same" : null;
  const facts = { status, problem, after: after || 0, again };
  if (problem.max_size && file?.size > problem.max_size)
    return new UploadError(code, tooLarge(problem.max_size), "Choose a smaller one.", facts);
  return new UploadError(code, problem.detail ?? problem.title ?? `The broker answered ${status}.`, "", facts);
}

/** Return the error for a service that gave no answer: "offline" if the device says that it is. */
export function unreachable(service, url, facts) {
  if (isOffline()) return new UploadError("offline", "This device is offline.", "Connect it and try again.", facts);
  const { origin } = new URL(url);
  return new UploadError("unreachable", `${service} could not be reached at ${origin}.`,
    `Check the connection. If it works, check that ${origin} allows this page's origin (CORS), and that this page's `
    + `Content-Security-Policy allows ${origin} (connect-src).`, facts);
}

/** Return the error for a file that was changed, moved or deleted after it was chosen. */
export function fileGone(cause) {
  return new UploadError("file_gone", "The file can no longer be read.", "Choose it again.", { cause });
}

/** Return whether the device says that it has no network. */
export function isOffline() {
  return globalThis.navigator?.onLine === false;
}
