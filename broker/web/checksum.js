/** The checksum of a whole file, computed in chunks by a worker. */

import { UploadError, fileGone } from "./upload/errors.js";

// A bundle that is no module has no import.meta.url; its worker is then beside the script that is loading now.
const SCRIPT = globalThis.document?.currentScript?.src;

/** Return a file's checksum in base64; the algorithm is `sha256` or `crc64nvme`. */
export async function checksumOf(file, algorithm, signal) {
  const base = import.meta.url ?? SCRIPT;
  if (!base)
    throw new UploadError("checksum", "This bundle does not know the address of checksum-worker.js.",
      "Load the bundle by a script element with src, or as a module.");
  const url = new URL("./checksum-worker.js", base);
  // A worker's script must have the page's origin. If this module has another, a blob of the page's origin imports it.
  // webpack replaces import.meta.url by the file's address at the build, and the last form by one of its own.
  const foreign = url.protocol !== "file:" && url.origin !== globalThis.location.origin;
  const start = foreign && URL.createObjectURL(new Blob([`import "${url}";`], { type: "text/javascript" }));
  // Bundlers recognize the last form only, word for word.
  const worker = foreign || !import.meta.url
    ? new Worker(start || url, { type: "module" })
    : new Worker(new URL("./checksum-worker.js", import.meta.url), { type: "module" });
  try {
    return await new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      worker.onmessage = ({ data }) => (data.checksum ? resolve(data.checksum) : reject(fileGone()));
      worker.onerror = () => reject(new UploadError("checksum", "The worker that computes the checksum could not be started."));
      worker.postMessage({ file, algorithm });
    });
  } finally {
    worker.terminate();
    if (start) URL.revokeObjectURL(start);
  }
}
