/** The unfinished uploads that this browser remembers, so that a reload, a crash or another day goes on with them. */

import { fileGone } from "./errors.js";

const NAMESPACE = "s3-media-broker:";
const EDGE = 64 * 1024; // bytes at either end that tell a file from another one of the same name, size and date
const running = new Set(); // keys of files that this page uploads now

/** The uploads of one owner to one broker, in a Storage such as localStorage; null remembers nothing. */
export class Unfinished {
  constructor(storage, prefix, owner) {
    Object.assign(this, { storage, prefix, owner });
  }

  /** Return the records of files that this page does not upload now, the newest first; those that expired are removed. */
  list() {
    const keys = Object.keys(this.storage ?? {}).filter((key) => key.startsWith(NAMESPACE) && !running.has(key));
    return keys.map((key) => this.read(key))
      .filter((record) => record?.prefix === this.prefix && record.owner === this.owner)
      .sort((a, b) => b.startedAt - a.startedAt);
  }

  /** Return the memory of a file; null if this page uploads the same file already. */
  async of(file) {
    const { name, size, lastModified } = file;
    const identity = { prefix: this.prefix, owner: this.owner, name, size, lastModified };
    const key = keyOf(identity);
    if (running.has(key)) return null;
    this.list(); // those of files that were not chosen again hold names, also those of other users of this browser
    running.add(key);
    try {
      const digest = await digestOfEdges(file);
      const record = this.read(key);
      return new Memory(this, { ...identity, digest }, record?.digest === digest ? record : null);
    } catch (error) {
      running.delete(key);
      throw error;
    }
  }

  /** Return a record; null if there is none, or if it has expired. */
  read(key) {
    try {
      const record = JSON.parse(this.storage?.getItem(key) ?? "null");
      if (record?.expiresAt > Date.now()) return record;
      if (record) this.storage.removeItem(key);
    } catch {
      // the user forbids the storage, or another program wrote to it
    }
    return null;
  }

  /** Forget an upload. */
  remove(record) {
    try {
      this.storage?.removeItem(keyOf(record));
    } catch {
      // the user forbids the storage
    }
  }
}

/** The memory of one file; `record` is what was found when its upload began. */
class Memory {
  constructor(unfinished, identity, record) {
    Object.assign(this, { unfinished, identity, record });
  }

  /** Remember where the upload is. */
  keep(facts) {
    this.record = { ...this.identity, loaded: 0, startedAt: Date.now(), ...this.record, ...facts };
    try {
      this.unfinished.storage?.setItem(keyOf(this.identity), JSON.stringify(this.record));
    } catch {
      // the storage is full or forbidden; the upload then cannot go on after a reload
    }
  }

  forget() {
    this.record = null;
    this.unfinished.remove(this.identity);
  }

  /** Let another upload of the file begin. */
  release() {
    running.delete(keyOf(this.identity));
  }
}

function keyOf({ prefix, owner, name, size, lastModified }) {
  return NAMESPACE + JSON.stringify([prefix, owner, name, size, lastModified]);
}

/** Return the page's localStorage, or null if the user forbids it. */
export function localStorageOrNull() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/** Return the SHA-256 of a file's first and last bytes, in hex; empty on a page over http, which has no WebCrypto. */
async function digestOfEdges(file) {
  const edges = new Blob([file.slice(0, EDGE), file.slice(-EDGE)]);
  const bytes = await edges.arrayBuffer().catch((cause) => Promise.reject(fileGone(cause)));
  if (!globalThis.crypto?.subtle) return "";
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
