/** Helpers for elements, and durations and instants for display. */

/** Return an element with these properties, data attributes and children; text is never parsed as HTML. */
export function el(tag, { data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Return a name in an element that isolates its writing direction from the text around it. */
export function isolated(name) {
  return el("bdi", {}, name);
}

/** Return a button; `subject` completes its label for screen readers, such as `Play film.mp4`. */
export function button(label, subject, onclick, className = "") {
  const element = el("button", { type: "button", className, onclick }, label);
  element.ariaLabel = `${label} ${subject}`;
  return element;
}

/** Return a tile with the type of a file, such as MP4. */
export function tile(name, contentType = "") {
  const extension = /\.(\w{1,4})$/.exec(name)?.[1] ?? contentType.split("/").pop().slice(0, 4);
  const element = el("span", { className: "tile" }, extension.toUpperCase());
  element.ariaHidden = "true";
  return element;
}

/** Return facts joined into one line that breaks only between them. */
export function together(...facts) {
  return facts.map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ");
}

/** Return seconds as `48 s` or `3:05`. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Return a measured duration: below 10 seconds with one decimal, such as `0.4 s`. */
export function elapsed(seconds) {
  return seconds < 10 ? `${Math.max(0.1, seconds).toFixed(1)} s` : duration(seconds);
}

const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Return the age of an ISO 8601 instant, such as `5 minutes ago`. */
export function ago(instant) {
  const seconds = (Date.parse(instant) - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86_400], ["hour", 3600], ["minute", 60]])
    if (-seconds >= length) return AGO.format(Math.trunc(seconds / length), unit);
  return "just now";
}

/** Show `text` as the label of a button for two seconds, and announce it. */
export function flash(element, text) {
  element.dataset.label ??= element.textContent;
  element.textContent = text;
  say(text);
  setTimeout(() => (element.textContent = element.dataset.label), 2000);
}

/** Announce a message to screen readers. */
export function say(text) {
  document.querySelector("#announcement").textContent = text;
}
