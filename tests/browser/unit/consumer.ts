// Code of a TypeScript application. tsc accepts all of it, except the lines marked as errors.
import {
  UploadError,
  contentTypeOf,
  inWords,
  limitTo,
  upload,
  type Progress,
  type ReadyMedia,
} from "s3-media-broker-web";
import { link, play } from "s3-media-broker-web/playback";

const getToken = async () => "token";
const controller = new AbortController();

export async function send(files: FileList, bar: HTMLProgressElement): Promise<ReadyMedia[]> {
  const onProgress = ({ loaded, total, secondsLeft }: Progress) => {
    bar.value = loaded / total;
    bar.title = secondsLeft === null ? "" : `${secondsLeft.toFixed()} s of ${inWords(total)}`;
  };
  const options = { getToken, onProgress, signal: controller.signal, limit: limitTo(2), metadata: { album: "summer" } };
  try {
    return await Promise.all(Array.from(files, (file) => upload(file, { ...options, checksum: true })));
  } catch (error) {
    if (error instanceof UploadError) throw new Error(`${error.what} ${error.cure} (${error.code}, ${error.status})`);
    throw error;
  }
}

export async function watch(video: HTMLVideoElement, media: ReadyMedia): Promise<string> {
  const playback = await play(video, media.media_id, {
    getToken,
    expiresIn: 60,
    onLink: ({ expires_at }) => expires_at,
  });
  playback.stop();
  return (await link(media.media_id, { getToken, download: true })).signed_url;
}

export const type: string = contentTypeOf(new File([], "film.mkv"));

// @ts-expect-error: an upload needs a token
upload(new File([], "film.mp4"), {});
// @ts-expect-error: a path is not a file
upload("film.mp4", { getToken });
// @ts-expect-error: metadata is flat text
upload(new File([], "film.mp4"), { getToken, metadata: { album: 1 } });
