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
    return Response.json({ signed_url: `https://bucket/${tokens.length}`, expires_in: HOUR, ...body }, { status });
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
  broker({ signed_url: undefined });
  await assert.rejects(link("m1", options), { message: "https://api.example/v/ is not the address of a broker." });
});

test("an answer that is cut off is an error of the network", async () => {
  globalThis.fetch = async () => cut();
  await assert.rejects(link("m1", options), TypeError);
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
    resolve(Response.json({ signed_url: `https://bucket/${number}`, expires_in: HOUR }, { status }));
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

test("a video that the browser cannot decode is reported as such", async () => {
  broker({});
  const video = new Video();
  const messages = [];
  await start(video, { onError: ({ message }) => messages.push(message) });
  video.fail(4);
  assert.match(messages.join(), /codec/);
});
