/**
 * Uploads of videos straight from a browser to S3, through the broker.
 *
 * The broker signs forms, this module posts the file to the bucket with them, and the broker confirms the upload. A large
 * file goes in parts, so that a drop, a pause or a reload loses none that has arrived. Temporary failures are retried;
 * any other failure becomes an `UploadError` that states its cause and its fix.
 */

import { Broker, subjectOf } from "./upload/broker.js";
import { Unfinished, localStorageOrNull } from "./upload/unfinished.js";
import { Upload } from "./upload/upload.js";

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
  let started;
  const start = async () => {
    started = new Upload(file, { ...options, prefix: options.prefix ?? (options.issued ? undefined : HERE) });
    return started.run();
  };
  return Object.assign(start(), { pause: () => started?.pause(), resume: () => started?.resume() });
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
