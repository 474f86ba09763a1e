/**
 * An uploader for Uppy 6: each file by the browser helper, with Uppy's own buttons to pause, resume and retry.
 *
 * It has what Uppy asks of a plugin, and does not import Uppy: the application's copy could not be found from this folder.
 */

import { upload } from "./broker-upload.js";

export default class BrokerUpload {
  constructor(uppy, options) {
    Object.assign(this, { uppy, opts: options, type: "uploader" });
    this.id = options.id ?? "BrokerUpload";
    this.running = new Map(); // uploads, and what aborts them, by the id of the file
    this.listeners = {
      "upload-pause": (file, isPaused) => this.hold(file?.id, isPaused),
      "pause-all": () => this.all((id) => this.hold(id, true)),
      "resume-all": () => this.all((id) => this.hold(id, false)),
      "file-removed": (file) => this.cancel(file.id),
      "cancel-all": () => this.all((id) => this.cancel(id)),
    };
    this.send = (ids) => Promise.all(ids.map((id) => this.sendOne(id)));
  }

  install() {
    this.setResumable(true);
    this.uppy.addUploader(this.send);
    for (const [name, listener] of Object.entries(this.listeners)) this.uppy.on(name, listener);
  }

  uninstall() {
    this.setResumable(false);
    this.uppy.removeUploader(this.send);
    for (const [name, listener] of Object.entries(this.listeners)) this.uppy.off(name, listener);
    this.all((id) => this.cancel(id));
  }

  setOptions(options) {
    this.opts = { ...this.opts, ...options };
  }

  update() {} // nothing is drawn

  setResumable(resumableUploads) {
    this.uppy.setState({ capabilities: { ...this.uppy.getState().capabilities, resumableUploads } });
  }

  all(act) {
    for (const id of [...this.running.keys()]) act(id);
  }

  hold(id, isPaused) {
    const { task } = this.running.get(id) ?? {};
    if (isPaused) task?.pause();
    else task?.resume();
  }

  cancel(id) {
    this.running.get(id)?.stop.abort();
  }

  async sendOne(id) {
    const { uppy, opts, running } = this;
    const file = uppy.getFile(id);
    if (!file || file.error || file.progress.uploadComplete) return;
    const stop = new AbortController();
    const uploadStarted = Date.now();
    const onProgress = ({ loaded, total }) =>
      uppy.emit("upload-progress", uppy.getFile(id), { uploadStarted, bytesUploaded: loaded, bytesTotal: total });
    uppy.emit("upload-start", [file]);
    const task = upload(file.data, { ...opts, filename: file.name, onProgress, signal: stop.signal });
    running.set(id, { task, stop });
    if (file.isPaused) task.pause();
    try {
      const media = await task;
      uppy.emit("upload-success", uppy.getFile(id), { status: 200, body: media, uploadURL: media.signed_url });
    } catch (error) {
      if (!stop.signal.aborted) uppy.emit("upload-error", uppy.getFile(id), error);
    } finally {
      running.delete(id);
    }
  }
}
