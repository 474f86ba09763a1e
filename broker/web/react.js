/** Uploads in React: a hook over the browser helper for any number of files. */

import { useEffect, useState, useSyncExternalStore } from "react";
import { uploadAll } from "./broker-upload.js";

const NONE = Object.freeze([]);
const FAILED = new Set(["failed", "cancelled"]);
const ENDED = new Set(["ready", ...FAILED]);
let lastId = 0;

/**
 * Return the uploads of this component, and functions that add, pause, resume, cancel, retry and remove them.
 *
 * The options are those of `upload`; each render's apply to uploads that start after it. Uploads go on when the component
 * unmounts, so a page that shows them everywhere calls the hook once, above its routes.
 */
export function useUpload(options) {
  const [store] = useState(() => new Uploads(options));
  useEffect(() => {
    store.options = options;
  });
  const uploads = useSyncExternalStore(store.subscribe, store.read, () => NONE);
  return { uploads, ...store.actions };
}

/** The uploads of one component: an immutable list, and what runs for each entry. */
class Uploads {
  constructor(options) {
    this.options = options;
    this.list = NONE;
    this.running = new Map(); // by the entry's id
    this.listeners = new Set();
    this.subscribe = (listener) => {
      this.listeners.add(listener);
      return () => this.listeners.delete(listener);
    };
    this.read = () => this.list;
    const each = (act) => (id) => {
      for (const entry of this.list) if (id === undefined || entry.id === id) act(entry);
    };
    this.actions = {
      add: (files) => this.add(files),
      pause: each(({ id }) => this.running.get(id)?.upload.pause()),
      resume: each(({ id }) => this.running.get(id)?.upload.resume()),
      cancel: each(({ id }) => this.running.get(id)?.stop.abort()),
      retry: (id) => this.start(this.list.filter((entry) => FAILED.has(entry.state) && (id ?? entry.id) === entry.id)),
      remove: each((entry) => ENDED.has(entry.state) && this.publish(this.list.filter(({ id }) => id !== entry.id))),
    };
  }

  /** Start an upload of each file, and return the ids. */
  add(files) {
    const chosen = files instanceof Blob ? [files] : Array.from(files);
    const entries = chosen.map((file) => ({ id: `upload-${(lastId += 1)}`, file, name: file.name ?? "" }));
    this.publish([...this.list, ...entries.map((entry) => ({ ...entry, ...beginning(entry.file) }))]);
    this.start(entries);
    return entries.map(({ id }) => id);
  }

  /** Start an upload of each entry; one request issues all. */
  start(entries) {
    const { onReady, ...options } = this.options;
    const stops = entries.map(() => new AbortController());
    const isCurrent = (index) => this.running.get(entries[index].id)?.stop === stops[index];
    const each = (file, index) => {
      const { id } = entries[index];
      const onProgress = (progress) => isCurrent(index) && this.change(id, { error: null, ...progress });
      this.running.set(id, { stop: stops[index], upload: null });
      this.change(id, beginning(file));
      return { signal: stops[index].signal, onProgress };
    };
    for (const [index, running] of uploadAll(entries.map(({ file }) => file), options, each).entries()) {
      const { id, file } = entries[index];
      const stop = stops[index];
      this.running.set(id, { stop, upload: running });
      const end = (change) => {
        if (!isCurrent(index)) return;
        this.running.delete(id);
        this.change(id, { bytesPerSecond: 0, secondsLeft: null, ...change });
      };
      running.then(
        (media) => {
          end({ state: "ready", loaded: file.size, media });
          onReady?.(media, file);
        },
        (error) => end(stop.signal.aborted ? { state: "cancelled" } : { state: "failed", error }),
      );
    }
  }

  change(id, change) {
    this.publish(this.list.map((entry) => (entry.id === id ? { ...entry, ...change } : entry)));
  }

  publish(list) {
    this.list = Object.freeze(list);
    for (const listener of this.listeners) listener();
  }
}

function beginning(file) {
  const measures = { loaded: 0, total: file.size, bytesPerSecond: 0, secondsLeft: null, failures: 0 };
  return { state: "waiting", ...measures, mediaId: undefined, error: null, media: null };
}
