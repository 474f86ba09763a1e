// Code of a TypeScript application. tsc accepts all of it, except the lines marked as errors.
import {
  UploadError,
  contentTypeOf,
  discard,
  inWords,
  limitTo,
  unfinished,
  upload,
  uploadAll,
  type IssuedUpload,
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

export function describe(progress: Progress): string {
  switch (progress.state) {
    case "retrying":
      return `${progress.error.what} Retry in ${progress.delay} s.`;
    case "ready":
      return `${progress.media.filename} of ${progress.media.created_at}, ${progress.media.video?.codec}`;
    default:
      // @ts-expect-error: only a failed try has an error
      return progress.error ? "" : progress.state;
  }
}

export function sendTogether(files: FileList, bars: HTMLProgressElement[], stops: AbortController[]): Promise<ReadyMedia>[] {
  const running = uploadAll(files, { getToken, metadata: { album: "summer" } }, (file, index) => ({
    filename: file.name.trim(),
    signal: stops[index]?.signal,
    onProgress: ({ loaded, total }) => bars[index] && (bars[index].value = loaded / total),
  }));
  running[0]?.pause();
  return running;
}

export async function goOn(file: File, button: HTMLButtonElement): Promise<ReadyMedia> {
  const [latest] = await unfinished({ getToken });
  if (latest && latest.name !== file.name) await discard(latest, { getToken });
  const running = upload(file, { getToken, resumableOver: 0, storage: sessionStorage, owner: "alice" });
  button.onclick = () => (button.textContent === "Pause" ? running.pause() : running.resume());
  return running;
}

// An application without a token in the page. Unset options may be passed on as they are.
export async function onBehalf(file: File, signal?: AbortSignal): Promise<ReadyMedia> {
  await upload(file, {
    issue: async (_file, { request, idempotencyKey }) => {
      const body = JSON.stringify({ ...request, idempotencyKey });
      return (await (await fetch("/my/uploads", { method: "POST", body })).json()) as IssuedUpload;
    },
    signal,
    filename: undefined,
  });
  const issued: IssuedUpload = await (await fetch("/my/uploads", { method: "POST" })).json();
  return upload(file, { issued, signal });
}

export const type: string = contentTypeOf(new File([], "film.mkv"));

// @ts-expect-error: an upload needs a token
upload(new File([], "film.mp4"), {});
// @ts-expect-error: an issued upload is that of one file
uploadAll([new File([], "film.mp4")], { issued: {} as IssuedUpload });
// @ts-expect-error: a path is not a file
upload("film.mp4", { getToken });
// @ts-expect-error: metadata is flat text
upload(new File([], "film.mp4"), { getToken, metadata: { album: 1 } });
