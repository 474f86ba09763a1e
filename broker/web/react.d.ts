import type { IssueOptions, Progress, ReadyMedia, TokenOptions, UploadError, UploadState } from "./broker-upload.js";

/** One file's upload. Every change makes a new object. */
export interface UploadEntry {
  readonly id: string;
  readonly file: File | Blob;
  readonly name: string;
  readonly state: UploadState | "failed" | "cancelled";
  /** The bytes that S3 has acknowledged, and those on their way. */
  readonly loaded: Progress["loaded"];
  /** The file's size in bytes. */
  readonly total: number;
  readonly bytesPerSecond: number;
  readonly secondsLeft: number | null;
  readonly failures: number;
  readonly mediaId?: string | undefined;
  /** In the state "failed", and in "retrying", for which it is the reason. */
  readonly error: UploadError | Error | null;
  /** In the state "ready". */
  readonly media: ReadyMedia | null;
}

type HookOptions<Options> = Omit<Options, "onProgress" | "signal" | "idempotencyKey"> & {
  /** Called when an upload is ready. */
  onReady?: ((media: ReadyMedia, file: File | Blob) => void) | undefined;
};
export type UseUploadOptions = HookOptions<TokenOptions> | HookOptions<IssueOptions>;

/** Each function takes an entry's id; without one it applies to all. It does nothing in states for which it has no meaning. */
export interface UseUpload {
  readonly uploads: readonly UploadEntry[];
  /** Start an upload of each file, and return the entries' ids. */
  add(files: File | Blob | Iterable<File | Blob> | ArrayLike<File | Blob>): string[];
  /** Stop the transfer and keep what has arrived. */
  pause(id?: string): void;
  resume(id?: string): void;
  /** Stop the transfer; the broker deletes the media. */
  cancel(id?: string): void;
  /** Start a failed or cancelled upload again. Of a failed file in parts, those that arrived are not sent again. */
  retry(id?: string): void;
  /** Take ended uploads off the list. */
  remove(id?: string): void;
}

/** Return the uploads of this component, and the functions that control them. Uploads go on when it unmounts. */
export function useUpload(options: UseUploadOptions): UseUpload;
