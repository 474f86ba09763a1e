import type { IssueOptions, ReadyMedia, TokenOptions } from "./broker-upload.js";

type OfUppy = "filename" | "onProgress" | "signal";

/** The options of `upload`, except for those that Uppy sets. */
export type BrokerUploadOptions = { id?: string } & (Omit<TokenOptions, OfUppy> | Omit<IssueOptions, OfUppy>);

/**
 * An uploader for Uppy 6. The `response.body` of an uploaded file is its `ReadyMedia`.
 *
 * The members are those of Uppy's `BasePlugin`, which cannot be imported from this folder.
 */
export default class BrokerUpload {
  constructor(uppy: any, options?: BrokerUploadOptions);
  id: string;
  type: string;
  uppy: any;
  opts: BrokerUploadOptions;
  VERSION: string;
  defaultLocale: any;
  i18n: any;
  i18nArray: any;
  i18nInit(): void;
  getPluginState(): any;
  setPluginState(update?: any): void;
  setOptions(options: Partial<BrokerUploadOptions>): void;
  addTarget(plugin: any): HTMLElement | null;
  install(): void;
  uninstall(): void;
  update(state: any): void;
  afterUpdate(): void;
}

export type { ReadyMedia };
