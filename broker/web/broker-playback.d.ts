/** A media with a signed link, as returned by the broker's `GET /{media_id}`. */
export interface PlaybackLink {
  media_id: string;
  signed_url: string;
  /** Seconds; never beyond the expiry of the credentials that signed the link. */
  expires_in: number;
  /** ISO 8601. */
  expires_at: string;
  content_type: string;
  size: number;
}

export interface LinkOptions {
  getToken(wish: { renewed: boolean }): string | Promise<string>;
  /** The broker's prefix. By default, the address that served this module; required in a bundle. */
  prefix?: string | URL;
  /** Seconds, 1 to 86400; 3600 by default. */
  expiresIn?: number;
  /** Make the browser save the file instead of playing it. */
  download?: boolean;
  signal?: AbortSignal;
}

export interface PlayOptions extends LinkOptions {
  onLink?(link: PlaybackLink): void;
  onError?(error: Error): void;
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
