import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { link, play } from "../../../broker/web/broker-playback.js";
import { cut } from "./world.mjs";

const HOUR = 3600;

/** Script the broker's answers, in order; each link ends in the number of its request. */
function broker(...answers) {
  const tokens = [];
  globalThis.fetch = async (url, { headers }) => {
    tokens.push(headers.Authorization);
    const { status = 200, ...body } = answers.shift() ?? assert.fail("there was an unexpected request");
    const answer = { media_id: "m1", signed_url: `https://bucket/${tokens.length}`, expires_in: HOUR, ...body };
    return Response.json(answer, { status });
  };
  return tokens;
}

/** A stand-in for `<video>`, with the members that the module uses. */
class Video extends EventTarget {
  src = "";
  currentTime = 0;
  playbackRate = 1;
  paused = true;
  error = null;
  buffered = { length: 0 };
  async play() {
    this.paused = false;
  }
  fail(code) {
    this.error = { code };
    this.dispatchEvent(new Event("error"));
  }
}

const options = { prefix: "https://api.example/v", getToken: ({ renewed }) => (renewed ? "new" : "old") };
const playing = [];
afterEach(() => playing.splice(0).forEach((playback) => playback.stop())); // otherwise its timer keeps the process alive
const start = async (video, more = {}) => {
  const playback = await play(video, "m1", { ...options, ...more });
  playing.push(playback);
  return playback;
};
const settled = () => new Promise(setImmediate);

test("an expired token is renewed once", async () => {
  const tokens = broker({ status: 401, detail: "no" }, {});
  assert.equal((await link("m1", options)).signed_url, "https://bucket/2");
  assert.deepEqual(tokens, ["Bearer old", "Bearer new"]);
  broker({ status: 401, detail: "first" }, { status: 401, detail: "second" });
  await assert.rejects(link("m1", options), { message: "second" });
});

test("an address that is not a broker's gives an error", async () => {
  broker({ media_id: undefined });
  await assert.rejects(link("m1", options), { code: "not-a-broker" });
});

test("an answer that is cut off is an error of the network", async () => {
  globalThis.fetch = async () => cut();
  await assert.rejects(link("m1", options), { code: "unreachable" });
});

test("a film starts at its beginning, and a new link continues at the same position", async () => {
  broker({}, {});
  const video = new Video();
  const set = [];
  Object.defineProperty(video, "currentTime", { get: () => 7, set: (at) => set.push(at) });
  const playback = await start(video); // 7 seconds into the previous film
  assert.deepEqual(set, []);
  await playback.replace();
  assert.deepEqual(set, [7]);
});

test("a link that expired while the device slept is replaced", async (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  broker({}, {});
  const video = new Video();
  await start(video);
  t.mock.timers.tick((HOUR + 1) * 1000); // only the wall clock advances: performance.now() may stop while the device sleeps
  video.fail(2);
  await settled();
  assert.equal(video.src, "https://bucket/2");
});

test("a lost connection is retried once, and then reported", async () => {
  broker({}, {});
  const video = new Video();
  const messages = [];
  await start(video, { onError: ({ message }) => messages.push(message) });
  video.fail(2);
  await settled();
  assert.equal(video.src, "https://bucket/2");
  video.fail(2);
  await settled();
  assert.match(messages.join(), /^The connection to the video was lost/);
  video.dispatchEvent(new Event("playing"));
  broker({});
  video.fail(2);
  await settled();
  assert.equal(messages.length, 1);
});

/** Hold the broker's answers back until they are called. */
function held() {
  const answers = [];
  const answer = (resolve) => (number, status = 200) =>
    resolve(Response.json({ media_id: "m1", signed_url: `https://bucket/${number}`, expires_in: HOUR }, { status }));
  globalThis.fetch = () => new Promise((resolve) => answers.push(answer(resolve)));
  return answers;
}

test("the first link of an aborted playback does not replace that of the next one", async () => {
  const answers = held();
  const video = new Video();
  const controller = new AbortController();
  const first = start(video, { signal: controller.signal });
  controller.abort();
  const second = start(video);
  await settled();
  answers[1](2);
  await second;
  answers[0](1);
  await assert.rejects(first, { name: "AbortError" });
  assert.equal(video.src, "https://bucket/2");
});

for (const [name, end] of [
  ["a stop", (playback) => playback.stop()],
  ["an abort", (playback, controller) => controller.abort()],
])
  test(`after ${name}, no error of a running request is reported`, async () => {
    const answers = held();
    const video = new Video();
    const controller = new AbortController();
    const messages = [];
    const starting = start(video, { signal: controller.signal, onError: ({ message }) => messages.push(message) });
    await settled();
    answers[0](1);
    const playback = await starting;
    video.fail(2);
    await settled();
    end(playback, controller);
    answers[1](2, 503);
    await settled();
    assert.deepEqual(messages, []);
  });

/** Advance the timers and the wall clock, and let what they started run. */
async function pass(t, seconds) {
  t.mock.timers.tick(seconds * 1000);
  await settled();
}

test("a link that cannot be had now is asked for again, unnoticed while the old one lives", async (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  const tokens = broker({}, { status: 503 }, {});
  const video = new Video();
  const messages = [];
  await start(video, { onError: ({ message }) => messages.push(message) });
  await pass(t, HOUR - 60);
  assert.equal(tokens.length, 2);
  await pass(t, 4);
  assert.equal(tokens.length, 2);
  await pass(t, 1);
  assert.equal(video.src, "https://bucket/3");
  assert.deepEqual(messages, []);
});

test("a link that cannot be had although the old one has expired is reported once, and asked for until it comes", async (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  const no = { status: 503, detail: "not now" };
  broker({}, ...Array(13).fill(no), {}, {});
  const video = new Video();
  const messages = [];
  await start(video, { onError: ({ message }) => messages.push(message) });
  await pass(t, HOUR - 60);
  for (let tries = 1; tries < 13; tries += 1) await pass(t, 5);
  assert.deepEqual(messages, ["not now"]);
  await pass(t, 5);
  assert.equal(video.src, "https://bucket/15");
  await pass(t, HOUR - 60);
  assert.equal(video.src, "https://bucket/16");
});

test("a replacement that the user asked for in vain does not end the renewals", async (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  const tokens = broker({}, { status: 503, detail: "not now" }, {});
  const video = new Video();
  const playback = await start(video);
  await assert.rejects(playback.replace(), { message: "not now" });
  await pass(t, HOUR - 61);
  assert.equal(tokens.length, 2);
  await pass(t, 1);
  assert.equal(video.src, "https://bucket/3");
});

test("a link that is refused for good is not asked for again", async (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  const tokens = broker({}, { status: 404, detail: "It was deleted." });
  const video = new Video();
  const messages = [];
  await start(video, { onError: ({ message }) => messages.push(message) });
  await pass(t, HOUR - 60);
  await pass(t, HOUR);
  assert.equal(tokens.length, 2);
  video.fail(2);
  assert.deepEqual(messages, []);
});

test("a video that stopped without a network goes on once the device is online", async (t) => {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"] });
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  broker({}, { status: 503, detail: "not now" }, {});
  const video = new Video();
  await start(video);
  video.fail(2);
  await settled();
  assert.equal(video.src, "https://bucket/1");
  page.dispatchEvent(new Event("online"));
  await settled();
  assert.equal(video.src, "https://bucket/3");
});

test("a video that the browser cannot decode is reported as such", async () => {
  broker({});
  const video = new Video();
  const messages = [];
  await start(video, { onError: ({ message }) => messages.push(message) });
  video.fail(4);
  assert.match(messages.join(), /codec/);
});
