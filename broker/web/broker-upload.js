/**
 * Uploads of videos straight from a browser to S3, through the broker.
 *
 * The broker signs forms, this module posts the file to the bucket with them, and the broker confirms the upload. A large
 * file goes in parts, so that a drop, a pause or a reload loses none that has arrived. Temporary failures are retried;
 * any other failure becomes an `UploadError` that states its cause and its fix.
 */

import { Batch, MAX_UPLOADS } from "./upload/batch.js";
import { Broker, subjectOf } from "./upload/broker.js";
import { Unfinished, localStorageOrNull } from "./upload/unfinished.js";
import { Upload, newKey } from "./upload/upload.js";

export { UploadError, inWords } from "./upload/errors.js";
export { contentTypeOf } from "./upload/video-types.js";
export { limitTo } from "./upload/waiting.js";

const HERE = import.meta.url?.replace(/[^/]*$/, ""); // undefined in a bundle that is no module

/**
 * Upload one file; resolve to the ready media, or reject with an UploadError or with the signal's reason.
 *
 * The promise has two functions of its own, `pause` and `resume`.
 */
export function upload(file, options) {
  return uploadAll([file], options)[0];
}

/**
 * Upload several files; return an upload for each, in order. One request issues up to 100 of them.
 *
 * `each` returns options of one file, such as its `onProgress` and `signal`. Files with `checksum: true`, those that the
 * application issues, and those of an `idempotencyKey` are issued one by one.
 */
export function uploadAll(files, options, each = () => ({})) {
  const chosen = Array.from(files);
  const { idempotencyKey, prefix: given } = options;
  const prefix = given ?? (options.issued ? undefined : HERE);
  const own = (index) => (idempotencyKey && chosen.length > 1 ? { idempotencyKey: `${idempotencyKey} ${index}` } : {});
  let uploads;
  try {
    uploads = chosen.map((file, index) => new Upload(file, { ...options, prefix, ...own(index), ...each(file, index) }));
  } catch (error) {
    return chosen.map(() => controlled(Promise.reject(error)));
  }
  const together = uploads.filter(
    ({ application, checksum, signal }) => !application.issue && checksum !== true && !signal?.aborted,
  );
  // A repeated call leaves out the files that are remembered, so a key of the application could not name one request.
  const isBatched = idempotencyKey === undefined && together.length > 1;
  for (let first = 0; isBatched && first < together.length; first += MAX_UPLOADS)
    new Batch(together.slice(first, first + MAX_UPLOADS), newKey());
  return uploads.map((started) => controlled(started.run(), started));
}

/** Return the promise of an upload with the functions that pause it and let it go on. */
function controlled(promise, started) {
  return Object.assign(promise, { pause: () => started?.pause(), resume: () => started?.resume() });
}

/** Return the unfinished uploads that go on once their files are chosen again, the newest first. */
export async function unfinished(options) {
  const { memory } = await rememberedBy(options);
  return memory.list();
}

/** Delete the media of an unfinished upload, and forget it. */
export async function discard(record, options) {
  const { memory, broker } = await rememberedBy(options);
  await broker.ask("DELETE", record.mediaId, { file: record }).catch((error) => {
    if (error.status !== 404) throw error;
  });
  memory.remove(record);
}

async function rememberedBy({ prefix = HERE, getToken, owner, storage = localStorageOrNull() }) {
  const broker = new Broker(prefix, getToken);
  return { broker, memory: new Unfinished(storage, broker.prefix, owner ?? subjectOf(await broker.token(false))) };
}
