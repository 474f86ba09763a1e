/** The step that an upload is in. */
export type UploadState = Progress["state"];

/** The state of an upload, and its measures. */
export type Progress = Measures &
  (
    | { state: "waiting" | "checking" | "asking" | "sending" | "paused" | "confirming" }
    /** The device has no network. The upload goes on when it has; this is no failed try. */
    | { state: "offline" }
    /** A try failed; the next one follows after `delay` seconds. */
    | { state: "retrying"; error: UploadError; delay: number }
    | { state: "ready"; media: ReadyMedia }
  );

interface Measures {
  /** The bytes that S3 has acknowledged, and those on their way. A transfer that is cut off counts no longer. */
  loaded: number;
  /** The file's size in bytes. */
  total: number;
  /** The average over the last few seconds; 0 while unknown. */
  bytesPerSecond: number;
  /** The estimate at that speed; null while unknown. */
  secondsLeft: number | null;
  /** Set once the broker has issued the upload. */
  mediaId?: string | undefined;
  /** The number of tries that failed since the last part arrived. */
  failures: number;
}

/** A ready media, as returned by the broker's `POST /{media_id}/complete`. Instants are ISO 8601. */
export interface ReadyMedia {
  media_id: string;
  status: "ready";
  content_type: string;
  size: number;
  filename: string | null;
  /** As declared; in seconds. */
  duration_seconds: number | null;
  /** The probed properties; null unless the broker probes videos. */
  video: { seconds: number | null; codec: string; width: number | null; height: number | null } | null;
  metadata: Record<string, string>;
  created_at: string;
  ready_at: string;
  /** True if it was uploaded in parts. */
  resumable: boolean;
  etag: string | null;
  /** A link to play the media, which lives for `expires_in` seconds; null for an upload token without `allow_link`. */
  signed_url: string | null;
  expires_in: number | null;
  expires_at: string | null;
  success: true;
  message: string;
}

/** The broker's answer to `POST /upload`, which an application's backend may pass on. Other fields are not used. */
export interface IssuedUpload {
  media_id: string;
  complete_url: string;
  expires_in: number;
  max_size: number;
  upload: { method: string; url: string; fields: Record<string, string>; headers: Record<string, string> } | null;
  parts?: object | null | undefined;
  upload_expires_at?: string | null | undefined;
  /** The bearer token of this one upload, which the helper then uses instead of `getToken`. */
  upload_token?: string | null | undefined;
}

/** The body of `POST /upload` for a file. */
export interface UploadRequest {
  content_type: string;
  size: number;
  filename?: string | undefined;
  duration_seconds?: number | undefined;
  metadata?: Record<string, string> | undefined;
  checksum_sha256?: string | undefined;
  checksum_crc64nvme?: string | undefined;
  resumable?: true | undefined;
}

export interface Limit {
  /** Wait for a free place; resolve to the function that frees it, or reject with the signal's reason. */
  enter(signal?: AbortSignal): Promise<() => void>;
}

/** Return the caller's bearer token. Called before every request to the broker; `renewed` is true after a 401. */
export type GetToken = (wish: { renewed: boolean }) => string | Promise<string>;

interface CommonOptions {
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Abort the upload: the transfer stops, and the broker deletes the media. */
  signal?: AbortSignal | undefined;
  /** By default, at most 3 uploads of the page run at a time. */
  limit?: Limit | undefined;
  /** The number of tries in a row before an error is final; 8 by default. */
  attempts?: number | undefined;
  /** The owner of the memory of unfinished uploads; by default the `sub` of the token. */
  owner?: string | undefined;
  /** Where unfinished uploads are remembered; localStorage by default, null for nowhere. */
  storage?: Storage | null | undefined;
}

interface FileOptions extends CommonOptions {
  /** The broker's prefix, such as `https://api.example/api/v1/s3-media`. By default, the address that served this module; required in a bundle. */
  prefix?: string | URL | undefined;
  /** Repeating a key returns the same media. By default a random one. */
  idempotencyKey?: string | undefined;
  /** Larger files go in parts and can be resumed; 32 MiB by default. In bytes. */
  resumableOver?: number | undefined;
  /** `true` computes a checksum first, which S3 then verifies: a SHA-256, or a CRC-64/NVME of a file in parts. A string is a known SHA-256, in base64; such a file does not go in parts. */
  checksum?: boolean | string | undefined;
  filename?: string | undefined;
  durationSeconds?: number | undefined;
  /** A flat object of at most 2 KB as JSON. */
  metadata?: Record<string, string> | undefined;
}

/** This page asks the broker itself. */
export interface TokenOptions extends FileOptions {
  getToken: GetToken;
}

/** The application's backend asks the broker, and this page needs no token. */
export interface IssueOptions extends FileOptions {
  /**
   * Return the broker's answer to `request`, sent with this Idempotency-Key. The same key returns the same upload.
   *
   * Throw an error with the answer's `status` for a refusal: 404, 410 and 422 to a remembered key begin another upload.
   * A pause aborts the signal. A cancel does not, because the media of the answer is then deleted.
   */
  issue(
    file: File | Blob,
    wish: { request: UploadRequest; idempotencyKey: string; signal: AbortSignal },
  ): IssuedUpload | Promise<IssuedUpload>;
}

/** The application's backend has asked the broker. */
export interface IssuedOptions extends CommonOptions {
  issued: IssuedUpload;
  /** By default, the address of `issued.complete_url`. */
  prefix?: string | URL | undefined;
  /** For uploads without an `upload_token`. */
  getToken?: GetToken | undefined;
}

export type UploadOptions = TokenOptions | IssueOptions | IssuedOptions;

/** A running upload. */
export interface Upload extends Promise<ReadyMedia> {
  /** Stop the transfer and keep what has arrived. */
  pause(): void;
  /** Go on after `pause`. */
  resume(): void;
}

/** Upload one file; resolve to the ready media, or reject with an UploadError or with the signal's reason. */
export function upload(file: File | Blob, options: UploadOptions): Upload;

/** The options of one of several files. */
export interface EachOptions {
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
  filename?: string | undefined;
  durationSeconds?: number | undefined;
  metadata?: Record<string, string> | undefined;
}

/**
 * Upload several files; return an upload for each, in order. One request issues up to 100 of them.
 *
 * `each` returns options of one file. A file that the broker refuses fails alone. Files with `checksum: true`, those
 * that the application issues, and those of an `idempotencyKey` are issued one by one.
 */
export function uploadAll<Chosen extends File | Blob>(
  files: Iterable<Chosen> | ArrayLike<Chosen>,
  options: TokenOptions | IssueOptions,
  each?: (file: Chosen, index: number) => EachOptions,
): Upload[];

/** An upload that this browser remembers. To go on, choose the file again and `upload` it. */
export interface UnfinishedUpload {
  mediaId: string;
  name: string;
  /** Bytes. */
  size: number;
  /** Milliseconds since 1970, as in `File`. */
  lastModified: number;
  /** The bytes that had arrived when this was remembered. */
  loaded: number;
  /** Milliseconds since 1970. */
  startedAt: number;
  expiresAt: number;
}

export interface MemoryOptions {
  getToken: GetToken;
  prefix?: string | URL | undefined;
  owner?: string | undefined;
  storage?: Storage | null | undefined;
}

/**
 * Return the unfinished uploads that go on once their files are chosen again, the newest first.
 *
 * Those that this page uploads now are left out; those of another tab are not.
 */
export function unfinished(options: MemoryOptions): Promise<UnfinishedUpload[]>;

/** Delete the media of an unfinished upload, and forget it. */
export function discard(upload: UnfinishedUpload, options: MemoryOptions): Promise<void>;

/** Return a limit of `count` concurrent uploads. */
export function limitTo(count: number): Limit;

/** Return the file's video type by its usual name; by its extension if the browser's type is not a known video type. */
export function contentTypeOf(file: File | Blob): string;

/** Return a size for display, such as `100 MB`. */
export function inWords(bytes: number): string;

export class UploadError extends Error {
  readonly name: "UploadError";
  /** S3's code, the last part of a problem's `type`, or one of offline, unreachable, not-a-broker, cors, file_gone,
   * checksum, no-form, expired, application. */
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
