/** The unfinished uploads of this session, each with its progress, steps and actions. */

import { button, duration, el, elapsed, isolated, say, tile, together } from "./dom.js";

const queue = document.querySelector("#queue");
const WORDS = {
  waiting: "Waiting",
  checking: "Hashing",
  asking: "Requesting",
  sending: "Sending",
  retrying: "Retrying",
  confirming: "Confirming",
  ready: "Ready",
  failed: "Failed",
  cancelled: "Cancelled",
};
const TRACE = {
  checking: "computing the SHA-256 in a worker",
  asking: "POST …/upload: the broker signs a form",
  sending: "POST to the bucket: the file goes to S3",
  confirming: "POST …/complete: the broker checks the upload",
};

const FINAL = new Set(["EntityTooLarge", "EntityTooSmall", "file_gone"]);

/** Return whether sending the same file again may succeed. */
const isRetriable = ({ code, status }) => status !== 422 && !FINAL.has(code);

/** Return an error's message, shortened for a row. */
const shortMessage = ({ code, message }) =>
  code === "type-not-allowed" ? "Files of this type are not accepted." : message;

/**
 * Return a function that lists and uploads files.
 *
 * A finished upload leaves the list: `onReady` gets its media and its steps, and shows both.
 */
export function uploads({ helper, getToken, prefix, checksum, onReady, onChange }) {
  const rows = [];
  let finished = 0;
  const count = document.querySelector("#queue-count");
  const showCount = () => {
    document.querySelector("#queue-head").hidden = rows.length + finished === 0;
    count.textContent = `${finished} of ${rows.length + finished} uploaded`;
  };
  const onDismiss = (row) => {
    rows.splice(rows.indexOf(row), 1);
    showCount();
  };
  const changed = (row) => {
    showCount();
    onChange(row);
  };
  const finish = async (row, media) => {
    rows.splice(rows.indexOf(row), 1);
    finished += 1;
    showCount();
    await onReady(media, row.steps);
    row.leave();
  };
  window.addEventListener("beforeunload", (event) => {
    if (rows.some((row) => row.running)) event.preventDefault();
  });
  return (files) => {
    const callbacks = { onReady: finish, onDismiss, onChange: changed };
    const fresh = Array.from(files, (file) => new Row(file, { helper, getToken, prefix, checksum: checksum(), ...callbacks }));
    rows.push(...fresh);
    queue.prepend(...fresh.map((row) => row.element)); // in the order of sending
    for (const row of fresh) row.start();
    showCount();
  };
}

class Row {
  constructor(file, outside) {
    Object.assign(this, outside, { file, state: "waiting", running: false });
    this.name = file.name.trim() || "Unnamed";
    this.word = el("span", { className: "state" });
    this.more = el("span");
    this.bar = el("progress", { max: 1, value: 0 });
    this.bar.ariaLabel = `Progress of ${this.name}`;
    this.actions = el("div", { className: "actions" });
    this.trace = el("ol", { className: "trace" });
    this.steps = el("details", {}, el("summary", {}, "Steps"), this.trace);
    this.element = el("li", { className: "row" },
      tile(this.name, file.type),
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

  async start() {
    this.abort = new AbortController();
    this.running = true;
    this.began = performance.now();
    this.trace.replaceChildren();
    this.offer(["Cancel", () => this.abort.abort()]);
    const { getToken, prefix, checksum, abort } = this;
    const onProgress = (progress) => this.show(progress.state, progress);
    try {
      const options = { getToken, prefix, checksum, onProgress, signal: abort.signal };
      const media = await this.helper.upload(this.file, options);
      this.note(`ready: ${this.helper.inWords(media.size)} in ${elapsed(this.seconds)}`);
      this.finish("ready", "");
      await this.onReady(this, media);
    } catch (error) {
      const cancelled = abort.signal.aborted;
      if (!cancelled) this.note(error.message);
      this.finish(cancelled ? "cancelled" : "failed", cancelled ? "" : ` · ${shortMessage(error)}`);
      const retry = cancelled || isRetriable(error) ? [["Retry", () => this.start()]] : [];
      this.offer(...retry, ["Dismiss", () => this.dismiss()]);
    }
  }

  show(state, { loaded, total, bytesPerSecond, secondsLeft, error, delay } = {}) {
    const changed = state !== this.state;
    if (error) this.note(`${error.what} Retry in ${delay.toFixed(1)} s.`);
    else if (changed) this.note(TRACE[state]);
    this.state = state;
    this.element.dataset.state = state;
    this.word.textContent = WORDS[state];
    this.bar.value = total ? loaded / total : 0;
    this.bar.hidden = !this.running;
    const { inWords } = this.helper;
    if (state === "sending" && loaded > 0)
      this.more.textContent = ` · ${together(
        `${Math.floor((100 * loaded) / total)} % of ${inWords(total)}`,
        ...(bytesPerSecond ? [`${inWords(bytesPerSecond)}/s`, `${duration(secondsLeft)} left`] : []),
      )}`;
    else this.more.textContent = ` · ${error ? error.what : together(inWords(this.file.size))}`;
    if (changed) this.onChange(this);
  }

  finish(state, more) {
    this.running = false;
    if (state === "cancelled") this.note("cancelled");
    this.state = state;
    this.element.dataset.state = state;
    this.word.textContent = WORDS[state];
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
