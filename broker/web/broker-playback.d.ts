import type { GetToken, ReadyMedia } from "./broker-upload.js";

/** A media with a signed link, as returned by the broker's `GET /{media_id}`. */
export type PlaybackLink = ReadyMedia & { signed_url: string; expires_in: number; expires_at: string };

export interface LinkOptions {
  getToken: GetToken;
  /** The broker's prefix. By default, the address that served this module; required in a bundle. */
  prefix?: string | URL | undefined;
  /** Seconds; never beyond the expiry of the credentials that sign the link. 1 to 86400; 3600 by default. */
  expiresIn?: number | undefined;
  /** Make the browser save the file instead of playing it. */
  download?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

export interface PlayOptions extends LinkOptions {
  /** Its abort ends the playback's requests, as `stop` does; before the first link, `play` rejects with its reason. */
  signal?: AbortSignal | undefined;
  onLink?: ((link: PlaybackLink) => void) | undefined;
  onError?: ((error: Error) => void) | undefined;
}

export interface Playback {
  /** Fetch a new link now, and continue at the same position. */
  replace(): Promise<PlaybackLink>;
  /** Fetch no further links; the video keeps the current one. */
  stop(): void;
}

/** Return the broker's answer for one media, with a fresh `signed_url`. */
export function link(mediaId: string, options: LinkOptions): Promise<PlaybackLink>;

/** Play a media in a `<video>` for as long as needed, independent of the life of one link. */
export function play(video: HTMLVideoElement, mediaId: string, options: PlayOptions): Promise<Playback>;
