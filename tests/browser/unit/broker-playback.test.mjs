import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { link, play } from "../../../broker/web/broker-playback.js";

const HOUR = 3600;

/** Let the broker answer so, in order; each link it hands out is told from the others by its number. */
function broker(...answers) {
  const tokens = [];
  globalThis.fetch = async (url, { headers }) => {
    tokens.push(headers.Authorization);
    const { status = 200, ...body } = answers.shift() ?? assert.fail("nobody expected another request");
    return Response.json({ signed_url: `https://bucket/${tokens.length}`, expires_in: HOUR, ...body }, { status });
  };
  return tokens;
}

/** A `<video>`, as far as the module sees one. */
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
afterEach(() => playing.splice(0).forEach((playback) => playback.stop())); // its timer would keep the process
const start = async (video, more = {}) => {
  const playback = await play(video, "m1", { ...options, ...more });
  playing.push(playback);
  return playback;
};
const settled = () => new Promise(setImmediate);

test("a token that has ended is asked for anew, once", async () => {
  const tokens = broker({ status: 401, detail: "no" }, {});
  assert.equal((await link("m1", options)).signed_url, "https://bucket/2");
  assert.deepEqual(tokens, ["Bearer old", "Bearer new"]);
  broker({ status: 401, detail: "first" }, { status: 401, detail: "second" });
  await assert.rejects(link("m1", options), { message: "second" });
});

test("an address that is no broker's gives no link", async () => {
  broker({ signed_url: undefined });
  await assert.rejects(link("m1", options), { message: "https://api.example/v/ does not answer as a broker does." });
});

test("a film begins at its own beginning, and a new link goes on where it was", async () => {
  broker({}, {});
  const video = new Video();
  const set = [];
  Object.defineProperty(video, "currentTime", { get: () => 7, set: (at) => set.push(at) });
  const playback = await start(video); // 7 seconds into the film that was shown before
  assert.deepEqual(set, []);
  await playback.replace();
  assert.deepEqual(set, [7]);
});

test("a link that ended while the device slept is replaced", async (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  broker({}, {});
  const video = new Video();
  await start(video);
  t.mock.timers.tick((HOUR + 1) * 1000); // the wall clock alone: performance.now() may stand still in a sleep
  video.fail(2);
  await settled();
  assert.equal(video.src, "https://bucket/2");
});

test("a connection that breaks is tried once more, and then told", async () => {
  broker({}, {});
  const video = new Video();
  const told = [];
  await start(video, { onError: ({ message }) => told.push(message) });
  video.fail(2);
  await settled();
  assert.equal(video.src, "https://bucket/2");
  video.fail(2);
  await settled();
  assert.match(told.join(), /^The connection to the video broke off/);
  video.dispatchEvent(new Event("playing"));
  broker({});
  video.fail(2);
  await settled();
  assert.equal(told.length, 1);
});

test("a video that the browser cannot decode is told as that", async () => {
  broker({});
  const video = new Video();
  const told = [];
  await start(video, { onError: ({ message }) => told.push(message) });
  video.fail(4);
  assert.match(told.join(), /codec/);
});
