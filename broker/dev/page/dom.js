/** Make elements, and say sizes and times as people do. */

/** Return an element with these properties, data attributes and children; text is never read as HTML. */
export function el(tag, { data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Return a name whose direction of writing, or marks of one, change nothing around it. */
export function isolated(name) {
  return el("bdi", {}, name);
}

export function button(label, whose, onclick, className = "") {
  const one = el("button", { type: "button", className, onclick }, label);
  one.ariaLabel = `${label} ${whose}`;
  return one;
}

/** Return a tile that names the kind of a file, such as MP4. */
export function tile(name, contentType = "") {
  const extension = /\.(\w{1,4})$/.exec(name)?.[1] ?? contentType.split("/").pop().slice(0, 4);
  const one = el("span", { className: "tile" }, extension.toUpperCase());
  one.ariaHidden = "true";
  return one;
}

/** Return facts in one line that breaks between them alone. */
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

const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Return how long ago an ISO 8601 instant was. */
export function ago(instant) {
  const seconds = (Date.parse(instant) - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86_400], ["hour", 3600], ["minute", 60]])
    if (-seconds >= length) return AGO.format(Math.trunc(seconds / length), unit);
  return "just now";
}

/** Say something to those who do not see the page. */
export function say(text) {
  document.querySelector("#said").textContent = text;
}
