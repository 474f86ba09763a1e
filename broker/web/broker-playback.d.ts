/** A media with a signed link, as the broker's `GET /{media_id}` answers it. */
export interface PlaybackLink {
  media_id: string;
  signed_url: string;
  /** Seconds; never later than the end of the credentials that signed it. */
  expires_in: number;
  /** ISO 8601. */
  expires_at: string;
  content_type: string;
  size: number;
}

export interface LinkOptions {
  getToken(wish: { renewed: boolean }): string | Promise<string>;
  /** The broker's prefix. The default is where this module came from. */
  prefix?: string | URL;
  /** Seconds, 1 to 86400; 3600 by default. */
  expiresIn?: number;
  /** Let the browser save the file instead of showing it. */
  download?: boolean;
  signal?: AbortSignal;
}

export interface PlayOptions extends LinkOptions {
  onLink?(link: PlaybackLink): void;
  onError?(error: Error): void;
}

export interface Playback {
  /** Fetch a new link now, and go on at the same position. */
  replace(): Promise<PlaybackLink>;
  /** Fetch no further link; the video keeps the one it has. */
  stop(): void;
}

/** Return the broker's answer for one media, with a fresh `signed_url`. */
export function link(mediaId: string, options: LinkOptions): Promise<PlaybackLink>;

/** Play a media in a `<video>` for as long as it stays there, whatever the life of one link. */
export function play(video: HTMLVideoElement, mediaId: string, options: PlayOptions): Promise<Playback>;
