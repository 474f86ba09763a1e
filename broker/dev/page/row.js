/** One row of the uploads: its progress, its steps, and what its user can do. */

import { button, duration, el, elapsed, isolated, say, tile, together } from "./dom.js";

const WORDS = {
  waiting: "Waiting",
  checking: "Hashing",
  asking: "Requesting",
  sending: "Sending",
  retrying: "Retrying",
  paused: "Paused",
  offline: "Offline",
  unfinished: "Unfinished",
  confirming: "Confirming",
  ready: "Ready",
  failed: "Failed",
  cancelled: "Cancelled",
};
const TRACE = {
  checking: "computing the checksum in a worker",
  asking: "POST to the broker: it signs a form",
  sending: "POST to the bucket: the file goes to S3",
  confirming: "POST …/complete: the broker checks the upload",
  paused: "paused",
  offline: "this device is offline",
};

const FINAL = new Set(["EntityTooLarge", "EntityTooSmall", "file_gone"]);

/** Return whether sending the same file again may succeed. */
const isRetriable = ({ code, status }) => status !== 422 && !FINAL.has(code);

/** Return an error's message, shortened for a row. */
const shortMessage = ({ code, message }) =>
  code === "type-not-allowed" ? "Files of this type are not accepted." : message;

/** One upload: of a chosen file, or an unfinished one whose file has to be chosen again. */
export class Row {
  constructor(subject, outside) {
    Object.assign(this, outside, { subject, mediaId: subject.mediaId, state: "waiting", isRunning: false, isOver: false });
    this.name = subject.name.trim() || "Unnamed";
    this.word = el("span", { className: "state" });
    this.more = el("span");
    this.bar = el("progress", { max: 1, value: 0 });
    this.bar.ariaLabel = `Progress of ${this.name}`;
    this.actions = el("div", { className: "actions" });
    this.trace = el("ol", { className: "trace" });
    this.steps = el("details", {}, el("summary", {}, "Steps"), this.trace);
    this.element = el("li", { className: "row" },
      tile(this.name, subject.type),
      el("div", {},
        el("p", { className: "name", title: this.name }, isolated(this.name)),
        el("p", { className: "facts" }, this.word, this.more)),
      this.actions,
      this.bar,
      this.steps);
  }

  /** The seconds since the upload started. */
  get seconds() {
    return (performance.now() - this.began) / 1000;
  }

  /** Return whether this is an unfinished upload of the file. */
  isOf({ name, size, lastModified }) {
    const { subject } = this;
    return this.isWaitingFor({ name }) && subject.size === size && subject.lastModified === lastModified;
  }

  /** Return whether this is an unfinished upload of a file with that name. */
  isWaitingFor({ name }) {
    return this.state === "unfinished" && this.subject.name === name;
  }

  /** Ask for the file of an unfinished upload. */
  wait(reason = "choose the file again to continue") {
    const { loaded, size } = this.subject;
    this.enter("unfinished");
    this.more.textContent = ` · ${together(this.share(loaded, size))} · ${reason}`;
    this.bar.value = loaded / size;
    this.bar.hidden = false;
    this.steps.hidden = true;
    this.offer(["Choose the file", () => this.chooseAgain()], ["Discard", () => this.discard()]);
  }

  chooseAgain() {
    const input = el("input", { type: "file" });
    input.onchange = () => {
      const [file] = input.files;
      if (this.isOf(file)) this.start(file);
      else this.refuse(file);
    };
    input.click();
  }

  /** Say that a file is not that of this unfinished upload. */
  refuse(file) {
    const { size } = this.subject;
    const { inWords } = this.helper;
    const differs = file.name !== this.subject.name ? "it has another name"
      : file.size !== size ? `it has ${inWords(file.size)}, not ${inWords(size)}` : "it was changed since";
    this.wait(`that is another file: ${differs}`);
  }

  async discard() {
    try {
      await this.helper.discard(this.subject, this.options);
      this.dismiss();
    } catch (error) {
      this.wait(error.message);
    }
  }

  /** Upload a file, which this row then follows. */
  start(file, checksum = false) {
    const { helper, options } = this;
    return this.follow(file, checksum, helper.upload(file, { ...options, checksum, ...this.begin() }));
  }

  /** Prepare the row for an upload, and return that upload's own options. */
  begin() {
    this.abort = new AbortController();
    this.isRunning = true;
    this.isOver = false;
    this.steps.hidden = false;
    this.began = performance.now();
    this.trace.replaceChildren();
    return { signal: this.abort.signal, onProgress: (progress) => this.show(progress.state, progress) };
  }

  /** Follow a running upload until its end. */
  async follow(file, checksum, upload) {
    this.upload = upload;
    try {
      this.offerPause();
      const media = await upload;
      this.note(`ready: ${this.helper.inWords(media.size)} in ${elapsed(this.seconds)}`);
      this.finish("ready", "");
      await this.onReady(this, media);
    } catch (error) {
      const cancelled = this.abort.signal.aborted;
      if (!cancelled) this.note(error.message);
      this.finish(cancelled ? "cancelled" : "failed", cancelled ? "" : ` · ${shortMessage(error)}`);
      const retry = cancelled || isRetriable(error) ? [["Retry", () => this.start(file, checksum)]] : [];
      this.offer(...retry, ["Dismiss", () => this.dismiss()]);
    }
  }

  offerPause() {
    const pause = () => {
      this.upload.pause();
      this.offer(["Resume", resume], cancel);
    };
    const resume = () => {
      this.upload.resume();
      this.offer(["Pause", pause], cancel);
    };
    const cancel = ["Cancel", () => this.abort.abort()];
    this.offer(["Pause", pause], cancel);
  }

  show(state, { loaded, total, bytesPerSecond, secondsLeft, mediaId, error, delay } = {}) {
    const changed = state !== this.state;
    this.mediaId = mediaId ?? this.mediaId;
    if (error) this.note(`${error.what} Retry in ${delay.toFixed(1)} s.`);
    else if (changed) this.note(TRACE[state]);
    this.enter(state);
    this.bar.value = total ? loaded / total : 0;
    this.bar.hidden = !this.isRunning;
    const { inWords } = this.helper;
    const facts = [loaded > 0 ? this.share(loaded, total) : inWords(total)];
    if (state === "sending" && bytesPerSecond) facts.push(`${inWords(bytesPerSecond)}/s`, `${duration(secondsLeft)} left`);
    if (state === "offline") facts.push("continues once it is connected");
    this.more.textContent = ` · ${error ? error.what : together(...facts)}`;
    if (changed) this.onChange(this);
  }

  share(loaded, total) {
    return `${Math.floor((100 * loaded) / total)} % of ${this.helper.inWords(total)}`;
  }

  enter(state) {
    this.state = state;
    this.element.dataset.state = state;
    this.word.textContent = WORDS[state];
  }

  finish(state, more) {
    this.isRunning = false;
    this.isOver = true;
    if (state === "cancelled") this.note("cancelled");
    this.enter(state);
    this.more.textContent = more;
    this.bar.hidden = true;
    say(`${this.name}: ${WORDS[state]}${more}`);
    this.onChange(this);
  }

  dismiss() {
    this.onDismiss(this);
    this.leave();
    document.querySelector("#queue-title").focus();
  }

  /** Remove the row; if it had the keyboard focus, move the focus to the list's title. */
  leave() {
    const focused = this.element.contains(document.activeElement);
    this.element.remove();
    if (focused) document.querySelector("#queue-title").focus();
  }

  /** Show these actions, and keep the keyboard focus among them. */
  offer(...actions) {
    const focused = this.actions.contains(document.activeElement);
    this.actions.replaceChildren(...actions.map(([label, run]) => button(label, this.name, run)));
    if (focused) this.actions.firstChild.focus();
  }

  note(text) {
    if (!text) return;
    const at = `+${this.seconds.toFixed(2)} s`;
    this.trace.append(el("li", {}, el("span", {}, at), el("span", {}, text)));
  }
}
