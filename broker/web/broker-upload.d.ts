/** Where an upload stands. */
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
  /** Bytes of the file that were sent; begins again at 0 when the file has to be sent again. */
  loaded: number;
  /** Bytes of the file. */
  total: number;
  /** Over the last few seconds; 0 while unknown. */
  bytesPerSecond: number;
  /** At that speed; null while unknown. */
  secondsLeft: number | null;
  /** Known once the broker has issued the upload. */
  mediaId?: string;
  /** How many tries have failed so far. */
  failures: number;
  /** In the state "retrying": why, and how many seconds until the next try. */
  error?: UploadError;
  delay?: number;
}

/** A media that is ready, as the broker's `POST /{media_id}/complete` answers it. */
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
  /** Resolve to the function that leaves again; reject with the signal's reason. */
  enter(signal?: AbortSignal): Promise<() => void>;
}

export interface UploadOptions {
  /** Return the caller's bearer token. Asked before every request; `renewed` is true after a 401. */
  getToken(wish: { renewed: boolean }): string | Promise<string>;
  /** The broker's prefix, such as `https://api.example/api/v1/s3-media`. The default is where this module came from. */
  prefix?: string | URL;
  onProgress?(progress: Progress): void;
  /** Abort the upload: its bytes stop, and the broker forgets the media. */
  signal?: AbortSignal;
  /** The default lets 3 uploads of the page run at a time. */
  limit?: Limit;
  /** Tries before an error is final. 8 by default. */
  attempts?: number;
  /** The same key gives the same media again. A fresh one by default. */
  idempotencyKey?: string;
  /** `true`: compute a SHA-256 first, which S3 then insists on. A string: one that is known, in base64. */
  checksum?: boolean | string;
  filename?: string;
  durationSeconds?: number;
  /** Flat, and at most 2 KB as JSON. */
  metadata?: Record<string, string>;
}

/** Upload one file; resolve to the ready media, or reject with an UploadError or with the signal's reason. */
export function upload(file: File | Blob, options: UploadOptions): Promise<ReadyMedia>;

/** Return a gate that lets `count` uploads run at a time. */
export function limitTo(count: number): Limit;

/** Return the file's video type; where the browser knows none, the one its extension stands for. */
export function contentTypeOf(file: File | Blob): string;

/** Return a size as people write it, such as `100 MB`. */
export function inWords(bytes: number): string;

export class UploadError extends Error {
  readonly name: "UploadError";
  /** S3's code, the last part of a problem's `type`, or one of offline, unreachable, not-a-broker, cors, file_gone,
   * checksum. */
  readonly code: string;
  /** What went wrong, in one sentence. */
  readonly what: string;
  /** What mends it, or an empty string. */
  readonly cure: string;
  /** The HTTP status, or 0 where there was no answer. */
  readonly status: number;
  /** The broker's RFC 9457 problem, where it was the broker that refused. */
  readonly problem: Record<string, unknown> | null;
}
