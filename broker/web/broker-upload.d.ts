/** The step that an upload is in. */
export type UploadState =
  | "waiting"
  | "checking"
  | "asking"
  | "sending"
  | "retrying"
  | "confirming"
  | "ready";

export interface Progress {
  state: UploadState;
  /** Bytes of the file sent so far; restarts at 0 if the file has to be sent again. */
  loaded: number;
  /** The file's size in bytes. */
  total: number;
  /** The average over the last few seconds; 0 while unknown. */
  bytesPerSecond: number;
  /** The estimate at that speed; null while unknown. */
  secondsLeft: number | null;
  /** Set once the broker has issued the upload. */
  mediaId?: string;
  /** The number of failed tries so far. */
  failures: number;
  /** In the state "retrying": the reason, and the seconds until the next try. */
  error?: UploadError;
  delay?: number;
}

/** A ready media, as returned by the broker's `POST /{media_id}/complete`. */
export interface ReadyMedia {
  media_id: string;
  status: "ready";
  size: number;
  content_type: string;
  etag: string;
  signed_url: string;
  /** Seconds. */
  expires_in: number;
  /** ISO 8601. */
  expires_at: string;
}

export interface Limit {
  /** Wait for a free place; resolve to the function that frees it, or reject with the signal's reason. */
  enter(signal?: AbortSignal): Promise<() => void>;
}

export interface UploadOptions {
  /** Return the caller's bearer token. Called before every request; `renewed` is true after a 401. */
  getToken(wish: { renewed: boolean }): string | Promise<string>;
  /** The broker's prefix, such as `https://api.example/api/v1/s3-media`. By default, the address that served this module; required in a bundle. */
  prefix?: string | URL;
  onProgress?(progress: Progress): void;
  /** Abort the upload: the transfer stops, and the broker deletes the media. */
  signal?: AbortSignal;
  /** By default, at most 3 uploads of the page run at a time. */
  limit?: Limit;
  /** The number of tries before an error is final; 8 by default. */
  attempts?: number;
  /** Repeating a key returns the same media. By default a random one. */
  idempotencyKey?: string;
  /** `true` computes a SHA-256 first, which S3 then verifies. A string is a known SHA-256, in base64. */
  checksum?: boolean | string;
  filename?: string;
  durationSeconds?: number;
  /** A flat object of at most 2 KB as JSON. */
  metadata?: Record<string, string>;
}

/** Upload one file; resolve to the ready media, or reject with an UploadError or with the signal's reason. */
export function upload(file: File | Blob, options: UploadOptions): Promise<ReadyMedia>;

/** Return a limit of `count` concurrent uploads. */
export function limitTo(count: number): Limit;

/** Return the file's video type by its usual name; by its extension if the browser's type is not a known video type. */
export function contentTypeOf(file: File | Blob): string;

/** Return a size for display, such as `100 MB`. */
export function inWords(bytes: number): string;

export class UploadError extends Error {
  readonly name: "UploadError";
  /** S3's code, the last part of a problem's `type`, or one of offline, unreachable, not-a-broker, cors, file_gone,
   * checksum. */
  readonly code: string;
  /** The cause, in one sentence. */
  readonly what: string;
  /** The fix, in one sentence, or an empty string. */
  readonly cure: string;
  /** The HTTP status, or 0 if there was no answer. */
  readonly status: number;
  /** The broker's RFC 9457 problem, or null if S3 or the connection failed. */
  readonly problem: Record<string, unknown> | null;
}
