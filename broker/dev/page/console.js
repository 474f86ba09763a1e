/** The demo console: it shows the work of the broker's own browser modules. */

import { library } from "./library.js";
import { player } from "./player.js";
import { uploads } from "./queue.js";

// Installed before the first await, so that files chosen or dropped while the configuration loads are not lost.
const early = [];
let take = (chosen) => early.push(...chosen);
const files = document.querySelector("#files");
const drop = document.querySelector("#drop");
if (matchMedia("(pointer: coarse)").matches) document.querySelector("#lead").textContent = "Upload videos";
document.querySelector("#choose").onclick = () => files.click();
files.onchange = () => {
  take(files.files);
  files.value = "";
};
for (const over of ["dragenter", "dragover"])
  document.addEventListener(over, (event) => {
    event.preventDefault();
    drop.dataset.over = "true";
  });
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.dataset.over = "false";
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.dataset.over = "false";
  take(event.dataTransfer.files);
});

const health = document.querySelector("#health");
const showHealth = (state, text) => {
  health.dataset.health = state;
  document.querySelector("#health-text").textContent = text;
};
const checkHealth = async () => {
  const unreachable = () => ({ detail: "The broker does not answer" });
  const answer = await fetch(`${prefix}/health/s3`).then((response) => response.json()).catch(unreachable);
  if (answer.success) showHealth("healthy", `${answer.bucket} · ${answer.region}`);
  else showHealth("unavailable", answer.detail ?? "S3 does not answer");
};

const readConfig = async () => (await fetch("demo/config.json", { cache: "no-store" })).json();
let config = await readConfig();
const prefix = new URL(config.prefix, location.href).href;
const [helper, playback] = await Promise.all([
  import(`${prefix}/broker-upload.js`),
  import(`${prefix}/broker-playback.js`),
]);

const getToken = async ({ renewed }) => {
  if (renewed) config = await readConfig();
  return config.token;
};

const ask = async (method, path, renewed = false) => {
  const headers = { Authorization: `Bearer ${await getToken({ renewed })}` };
  let response, answer;
  try {
    response = await fetch(prefix + path, { method, headers, cache: "no-store" });
    answer = await response.json().catch((error) => error instanceof SyntaxError ? {} : Promise.reject(error));
  } catch {
    showHealth("unavailable", "The broker does not answer");
    throw new Error(`The broker does not answer at ${new URL(prefix).host}. Check that it is running.`);
  }
  if (health.dataset.health === "unavailable") checkHealth();
  if (response.status === 401 && !renewed) return ask(method, path, true);
  if (!response.ok) throw new Error(answer.detail ?? `The broker answered ${response.status}.`);
  return answer;
};

const { open, close } = player({ helper, playback, getToken, prefix, expiresIn: config.link_seconds });
const videos = library({ helper, ask, onPlay: open, onDelete: close, isHidden: (mediaId) => queue.isListed(mediaId) });
const queue = uploads({
  helper,
  getToken,
  prefix,
  checksum: () => document.querySelector("#checksum").checked,
  onReady: videos.add,
  onChange: ({ state }) => ["sending", "failed", "cancelled"].includes(state) && videos.refresh(),
});
take = queue.take;
take(early);

files.accept = ["video/*", ...config.types].join(",");
document.querySelector("#hint").textContent =
  `Files go straight from this browser to S3. At most ${helper.inWords(config.max_size)} each.`;

setInterval(() => document.hidden || checkHealth(), 15_000);
await Promise.all([checkHealth(), videos.refresh()]);
