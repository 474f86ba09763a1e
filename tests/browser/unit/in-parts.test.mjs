import assert from "node:assert/strict";
import { test } from "node:test";

import { discard, limitTo, unfinished, upload } from "../../../broker/web/broker-upload.js";
import { Lanes } from "../../../broker/web/upload/lanes.js";
import {
  answerLost,
  dropped,
  hangs,
  issuedParts,
  parts,
  problem,
  ready,
  refused,
  storage,
  stored,
  world,
} from "./world.mjs";

const bytes = (count) => Uint8Array.from({ length: count }, (_, index) => index % 251);
const film = (size = 3500, name = "film.mp4") => new File([bytes(size)], name, { type: "video/mp4", lastModified: 7 });
const resumable = { resumableOver: 0, owner: "alice" };
const mostlySent = { ...hangs, sent: 0.9 };
const sentParts = (requests) =>
  requests.filter(({ step }) => step === "s3").map(({ form }) => Number(new Map(form).get("key").split("/").at(-1)));

/** Each row: a name, the servers' answers, the requests that the helper makes, and the parts that it sends. */
const STORIES = [
  [
    "a file goes in parts, each with its own form",
    { upload: [issuedParts(4, [1, 2, 3, 4])], s3: [stored, stored, stored, stored], complete: [ready()] },
    "upload s3 s3 s3 s3 complete",
    [1, 2, 3, 4],
  ],
  [
    "further forms are fetched when they are needed",
    { upload: [issuedParts(4, [1, 2])], s3: [stored, stored, stored, stored], parts: [parts(4, [3, 4])], complete: [ready()] },
    "upload s3 s3 parts s3 s3 complete",
    [1, 2, 3, 4],
  ],
  [
    "a part that fails is sent again alone",
    { upload: [issuedParts(4, [1, 2, 3, 4])], s3: [stored, dropped, stored, stored, stored], complete: [ready()] },
    "upload s3 s3 s3 s3 s3 complete",
    [1, 2, 3, 4, 2],
  ],
  [
    "a busy S3 is retried",
    { upload: [issuedParts(1, [1])], s3: [refused(503, "SlowDown"), stored], complete: [ready()] },
    "upload s3 s3 complete",
    [1, 1],
  ],
  [
    "a part whose answer was lost is not sent again if it arrived",
    { upload: [issuedParts(2, [1, 2])], s3: [answerLost, stored], parts: [parts(2, [2], [1])], complete: [ready()] },
    "upload s3 s3 parts complete",
    [1, 2],
  ],
  [
    "the policy of a part that expired is renewed",
    {
      upload: [issuedParts(1, [1])],
      s3: [refused(403, "AccessDenied", "Invalid according to Policy: Policy expired."), stored],
      parts: [parts(1, [1])],
      complete: [ready()],
    },
    "upload s3 parts s3 complete",
    [1, 1],
  ],
  [
    "the policy of a part whose session token has expired is renewed",
    {
      upload: [issuedParts(1, [1])],
      s3: [refused(400, "ExpiredToken"), stored],
      parts: [parts(1, [1])],
      complete: [ready()],
    },
    "upload s3 parts s3 complete",
    [1, 1],
  ],
  [
    "a policy that is about to expire is not used",
    { upload: [issuedParts(1, [1], { expires_in: 5 })], parts: [parts(1, [1])], s3: [stored], complete: [ready()] },
    "upload parts s3 complete",
    [1],
  ],
  [
    "a fresh policy is used, however short it lives",
    {
      upload: [issuedParts(2, [1, 2], { expires_in: 5 })],
      parts: [parts(2, [1, 2], [], {}, 5), parts(2, [2], [1], {}, 5)],
      s3: [stored, stored],
      complete: [ready()],
    },
    "upload parts s3 parts s3 complete",
    [1, 2],
  ],
  [
    "only the parts that the broker misses are sent again",
    {
      upload: [issuedParts(3, [1, 2, 3])],
      s3: [stored, stored, stored, stored],
      complete: [problem(409, "parts-missing", { missing: [2] }), ready()],
      parts: [parts(3, [2], [1, 3])],
    },
    "upload s3 s3 s3 complete parts s3 complete",
    [1, 2, 3, 2],
  ],
  [
    "an unavailable broker loses no part",
    {
      upload: [issuedParts(3, [1])],
      s3: [stored, stored, stored],
      parts: ["drop", problem(503, "storage-away"), parts(3, [2, 3])],
      complete: [ready()],
    },
    "upload s3 parts parts parts s3 s3 complete",
    [1, 2, 3],
  ],
];

for (const [name, answers, expected, numbers] of STORIES)
  test(name, async () => {
    const { steps, requests, options, end } = world(answers);
    const media = await upload(film(), { ...options, ...resumable, storage: null });
    end();
    assert.equal(media.status, "ready");
    assert.equal(steps.join(" "), expected);
    assert.deepEqual(sentParts(requests), numbers);
  });

test("each part carries the common fields, its own, and exactly its bytes", async () => {
  const answers = { upload: [issuedParts(4, [1, 2, 3, 4])], s3: [stored, stored, stored, stored], complete: [ready()] };
  const { requests, options, end } = world(answers);
  await upload(film(3500), { ...options, ...resumable, storage: null });
  end();
  assert.equal(requests[0].body.resumable, true);
  const forms = requests.filter(({ step }) => step === "s3").map(({ form }) => form);
  for (const form of forms) assert.deepEqual(form.map(([name]) => name), ["Content-Type", "key", "file"]);
  const contents = await Promise.all(forms.map((form) => new Map(form).get("file").bytes?.() ?? new Map(form).get("file").arrayBuffer()));
  assert.deepEqual(Buffer.concat(contents.map((content) => new Uint8Array(content))), Buffer.from(bytes(3500)));
  assert.deepEqual(contents.map((content) => content.byteLength), [1000, 1000, 1000, 500]);
});

test("progress counts acknowledged bytes, and those of a part only while it is on its way", async () => {
  const answers = { upload: [issuedParts(2, [1, 2])], s3: [stored, dropped, stored], complete: [ready()] };
  const { options, end } = world(answers);
  const reports = [];
  const onProgress = ({ state, loaded, total }) => reports.push(`${state} ${loaded} of ${total}`);
  await upload(film(1500), { ...options, ...resumable, storage: null, onProgress });
  end();
  assert.deepEqual(reports.filter((report, index) => report !== reports[index - 1]), [
    "waiting 0 of 1500",
    "asking 0 of 1500",
    "sending 0 of 1500",
    "sending 1000 of 1500",
    "retrying 1000 of 1500",
    "sending 1000 of 1500",
    "sending 1500 of 1500",
    "confirming 1500 of 1500",
    "ready 1500 of 1500",
  ]);
});

test("a drop of several parts counts as one try", async () => {
  const s3 = [stored, dropped, dropped, stored, stored];
  const { options, end } = world({ upload: [issuedParts(3, [1, 2, 3])], s3, complete: [ready()] });
  const media = await upload(film(2500), { ...options, ...resumable, storage: null, attempts: 2 });
  end();
  assert.equal(media.status, "ready");
});

/** Start an upload whose network never comes back, and return its storage once it has failed after two parts. */
async function interrupted(file, owner = "alice") {
  const kept = storage();
  const answers = { upload: [issuedParts(4, [1, 2, 3, 4])], s3: [stored, stored, dropped, dropped, dropped] };
  const { options, end } = world(answers, { bucketIsThere: false });
  const failure = upload(file, { ...options, ...resumable, owner, storage: kept, attempts: 1 });
  await assert.rejects(failure, { code: "unreachable" });
  end();
  return kept;
}

test("the same file goes on where it stopped, in a page that knows nothing but its storage", async () => {
  const kept = await interrupted(film());
  const answers = { parts: [parts(4, [3, 4], [1, 2])], s3: [stored, stored], complete: [ready()] };
  const { steps, requests, options, end } = world(answers);
  const [remembered] = await unfinished({ ...options, owner: "alice", storage: kept });
  assert.deepEqual([remembered.name, remembered.size, remembered.loaded, remembered.mediaId], ["film.mp4", 3500, 2000, "m1"]);
  await upload(film(), { ...options, ...resumable, storage: kept });
  end();
  assert.equal(steps.join(" "), "parts s3 s3 complete");
  assert.equal(requests[0].path, "m1/parts?from=1&limit=1000&forms=16");
  assert.deepEqual(sentParts(requests), [3, 4]);
  assert.deepEqual(Object.keys(kept), []);
});

test("a file that arrived while the page was gone is only completed", async () => {
  const kept = await interrupted(film());
  const { steps, options, end } = world({ parts: [parts(4, [], [1, 2, 3, 4])], complete: [ready()] });
  await upload(film(), { ...options, ...resumable, storage: kept });
  end();
  assert.equal(steps.join(" "), "parts complete");
});

/** Uploads that must not go on with the media of film.mp4: a name, the file, and the options. */
const altered = bytes(3500);
altered[0] = 255;
for (const [name, file, more] of [
  ["another name", film(3500, "other.mp4"), {}],
  ["another size", film(3400), {}],
  ["another date", new File([bytes(3500)], "film.mp4", { type: "video/mp4", lastModified: 8 }), {}],
  ["other bytes", new File([altered], "film.mp4", { type: "video/mp4", lastModified: 7 }), {}],
  ["another owner", film(), { owner: "bob" }],
  ["a known SHA-256", film(), { checksum: "c2hhMjU2" }],
])
  test(`a file with ${name} is another upload`, async () => {
    const kept = await interrupted(film());
    const { steps, options, end } = world({ upload: [issuedParts(1, [1])], s3: [stored], complete: [ready()] });
    await upload(file, { ...options, ...resumable, storage: kept, ...more });
    end();
    assert.equal(steps.join(" "), "upload s3 complete");
  });

for (const [name, answer] of [
  ["deleted", problem(404, "media-not-found")],
  ["expired", problem(410, "upload-expired")],
  ["rejected", problem(422, "upload-rejected")],
])
  test(`an unfinished upload that was ${name} begins anew`, async () => {
    const kept = await interrupted(film());
    const answers = { parts: [answer], upload: [issuedParts(1, [1])], s3: [stored], complete: [ready()] };
    const { steps, options, end } = world(answers);
    await upload(film(), { ...options, ...resumable, storage: kept });
    end();
    assert.equal(steps.join(" "), "parts upload s3 complete");
  });

test("an upload that expires after it has sent parts is not sent again from zero", async () => {
  const answers = { upload: [issuedParts(1, [1])], s3: [stored], complete: [problem(410, "upload-expired")] };
  const { steps, options, end } = world(answers);
  await assert.rejects(upload(film(900), { ...options, ...resumable, storage: null }), { code: "upload-expired" });
  end();
  assert.equal(steps.join(" "), "upload s3 complete");
});

test("a record in the storage that no longer parses is ignored", async () => {
  const kept = await interrupted(film());
  for (const key of Object.keys(kept)) kept[key] = "{";
  const { steps, options, end } = world({ upload: [issuedParts(1, [1])], s3: [stored], complete: [ready()] });
  await upload(film(), { ...options, ...resumable, storage: kept });
  end();
  assert.equal(steps[0], "upload");
});

test("a file that is chosen twice at once is two uploads", async () => {
  const answers = {
    upload: [issuedParts(1, [1]), issuedParts(1, [1], { media_id: "m2" })],
    s3: [stored, stored],
    complete: [ready(), ready()],
  };
  const { requests, options, end } = world(answers);
  const kept = storage();
  await Promise.all([film(), film()].map((file) => upload(file, { ...options, ...resumable, storage: kept })));
  end();
  assert.deepEqual(requests.filter(({ step }) => step === "complete").map(({ path }) => path).sort(), ["m1/complete", "m2/complete"]);
});

test("an unfinished upload that is discarded is deleted and forgotten", async () => {
  const kept = await interrupted(film());
  const { requests, options, end } = world({ DELETE: [{ status: 200, body: { media_id: "m1" } }] });
  const mine = { ...options, owner: "alice", storage: kept };
  const [record] = await unfinished(mine);
  await discard(record, mine);
  assert.deepEqual(await unfinished(mine), []);
  end();
  assert.deepEqual(requests.map(({ step, path }) => `${step} ${path}`), ["DELETE m1"]);
});

test("the owner of the memory is the subject of the token", async () => {
  const token = `e30.${Buffer.from(JSON.stringify({ sub: "alice" })).toString("base64url")}.`;
  const kept = await interrupted(film());
  const { options, end } = world({});
  const [record] = await unfinished({ ...options, getToken: () => token, storage: kept });
  end();
  assert.equal(record.mediaId, "m1");
});

test("a pause stops the transfer, keeps what arrived, and leaves its place to others", async () => {
  const answers = {
    upload: [issuedParts(2, [1, 2]), issuedParts(1, [1], { media_id: "m2" })],
    s3: [stored, mostlySent, stored, stored],
    complete: [ready(), ready()],
  };
  const { steps, options, end } = world(answers);
  const shared = { ...options, ...resumable, storage: null, limit: limitTo(1) };
  const states = [];
  let notePause;
  const paused = new Promise((resolve) => (notePause = resolve));
  const first = upload(film(1500), {
    ...shared,
    onProgress: ({ state, loaded }) => {
      if (states.at(-1) !== `${state} ${loaded}`) states.push(`${state} ${loaded}`);
      if (loaded === 1350) first.pause();
      if (state === "paused") notePause();
    },
  });
  await paused;
  await upload(film(900, "second.mp4"), shared);
  first.resume();
  await first;
  end();
  assert.equal(steps.join(" "), "upload s3 s3 abort upload s3 complete s3 complete");
  assert.deepEqual(states.slice(-6), ["paused 1000", "waiting 1000", "sending 1000", "sending 1500", "confirming 1500", "ready 1500"]);
});

test("an abort while paused deletes the media", async () => {
  const answers = { upload: [issuedParts(2, [1, 2])], s3: [mostlySent], DELETE: [{ status: 200, body: { media_id: "m1" } }] };
  const { steps, options, end } = world(answers);
  const controller = new AbortController();
  const kept = storage();
  const running = upload(film(1500), {
    ...options,
    ...resumable,
    storage: kept,
    signal: controller.signal,
    onProgress: ({ state, loaded }) => {
      if (loaded > 0) running.pause();
      if (state === "paused") queueMicrotask(() => controller.abort());
    },
  });
  await assert.rejects(running, { name: "AbortError" });
  await new Promise(setImmediate);
  end();
  assert.equal(steps.join(" "), "upload s3 abort DELETE");
  assert.deepEqual(Object.keys(kept), []);
});

test("a page without a token uploads what its backend was issued, with the upload's own token", async () => {
  const answer = issuedParts(2, [1], { upload_token: "only for m1", complete_url: "https://api.example/api/v1/s3-media/m1/complete" });
  const { steps, requests, end } = world({ s3: [stored, stored], parts: [parts(2, [2], [1])], complete: [ready()] });
  await upload(film(1500), { issued: answer.body });
  end();
  assert.equal(steps.join(" "), "s3 parts s3 complete");
  const tokens = requests.filter(({ headers }) => headers?.Authorization).map(({ headers }) => headers.Authorization);
  assert.deepEqual([...new Set(tokens)], ["Bearer only for m1"]);
});

test("an application that issues gets the request and its key, and the same key after a reload", async () => {
  const answer = () => issuedParts(2, [1, 2], { upload_token: "only for m1" }).body;
  const asked = [];
  const kept = storage();
  const options = (more) => ({
    prefix: "https://api.example/api/v1/s3-media",
    resumableOver: 0,
    storage: kept,
    issue: async (file, { request, idempotencyKey }) => {
      asked.push([file.name, request.size, request.resumable, idempotencyKey]);
      return answer();
    },
    ...more,
  });
  const first = world({ s3: [stored, dropped] }, { bucketIsThere: false });
  await assert.rejects(upload(film(1500), options({ attempts: 1 })), { code: "unreachable" });
  first.end();
  const second = world({ parts: [parts(2, [2], [1])], s3: [stored], complete: [ready()] });
  await upload(film(1500), options());
  second.end();
  assert.equal(second.steps.join(" "), "parts s3 complete");
  assert.deepEqual(asked[0].slice(0, 3), ["film.mp4", 1500, true]);
  assert.deepEqual(asked[1], asked[0]);
});

for (const status of [404, 410, 422])
  test(`an application that issues is asked for another upload if the remembered one is gone (${status})`, async () => {
    const keys = [];
    const kept = storage();
    const options = (refusals) => ({
      prefix: "https://api.example/api/v1/s3-media",
      resumableOver: 0,
      storage: kept,
      attempts: 1,
      issue: async (_, { idempotencyKey }) => {
        keys.push(idempotencyKey);
        if (refusals.length > 0) throw Object.assign(new Error("It is gone."), { status: refusals.shift() });
        return issuedParts(2, [1, 2], { upload_token: "a token", media_id: `m${keys.length}` }).body;
      },
    });
    const first = world({ s3: [stored, dropped] }, { bucketIsThere: false });
    await assert.rejects(upload(film(1500), options([])), { code: "unreachable" });
    first.end();
    const again = world({ s3: [stored, stored], complete: [ready()] });
    await upload(film(1500), options([status]));
    again.end();
    assert.equal(again.steps.join(" "), "s3 s3 complete");
    assert.equal(again.requests.at(-1).path, "m3/complete");
    assert.deepEqual([keys[1] === keys[0], keys[2] === keys[0]], [true, false]);
    await assert.rejects(upload(film(1500, "another.mp4"), options([status])), { message: "It is gone." });
    assert.equal(keys.length, 4);
  });

test("a running upload is not one of the unfinished, and is one after it failed", async () => {
  const kept = storage();
  const { options, end } = world({ upload: [issuedParts(2, [1, 2])], s3: [stored, hangs], DELETE: [ready()] });
  const list = async () => (await unfinished({ ...options, owner: "alice", storage: kept })).map(({ mediaId }) => mediaId);
  let listed;
  const onProgress = ({ loaded }) => loaded >= 1000 && (listed ??= list());
  const controller = new AbortController();
  const running = upload(film(1500), { ...options, ...resumable, storage: kept, onProgress, signal: controller.signal });
  while (!listed) await new Promise(setImmediate);
  assert.deepEqual(await listed, []);
  controller.abort();
  await assert.rejects(running);
  end();
  const broken = world({ upload: [issuedParts(2, [1, 2])], s3: [stored, dropped] }, { bucketIsThere: false });
  await assert.rejects(upload(film(1500), { ...options, ...resumable, storage: kept, attempts: 1 }));
  broken.end();
  assert.deepEqual(await list(), ["m1"]);
});

test("what a browser remembers of files that were not chosen again is removed once it has expired", async () => {
  const kept = storage();
  const key = (owner) => `s3-media-broker:${JSON.stringify(["https://api.example/", owner, "old.mp4", 1, 2])}`;
  kept.setItem(key("alice"), JSON.stringify({ expiresAt: Date.now() - 1 }));
  kept.setItem(key("bob"), JSON.stringify({ expiresAt: Date.now() - 1 }));
  kept.setItem(key("eve"), JSON.stringify({ expiresAt: Date.now() + 60_000 }));
  const { options, end } = world({ upload: [issuedParts(1, [1])], s3: [stored], complete: [ready()] });
  await upload(film(900), { ...options, ...resumable, storage: kept });
  end();
  assert.deepEqual(Object.keys(kept), [key("eve")]);
});

test("a cancel while the token is awaited computes no checksum", async () => {
  const { options, end } = world({});
  let started = 0;
  globalThis.Worker = class {
    constructor() {
      started += 1;
    }
  };
  let give;
  const getToken = () => new Promise((resolve) => (give = () => resolve("token")));
  const controller = new AbortController();
  const states = [];
  const onProgress = ({ state }) => states.push(state);
  const more = { getToken, resumableOver: 0, storage: storage(), checksum: true, onProgress, signal: controller.signal };
  const running = upload(film(900), { ...options, ...more });
  while (!give) await new Promise(setImmediate);
  controller.abort();
  give();
  await assert.rejects(running, { name: "AbortError" });
  end();
  assert.deepEqual([started, states], [0, ["waiting"]]);
});

test("a page whose storage is forbidden still uploads", async () => {
  const forbidden = { getItem: () => { throw new DOMException("", "SecurityError"); }, setItem: () => { throw new DOMException("", "QuotaExceededError"); }, removeItem: () => {} };
  const { options, end } = world({ upload: [issuedParts(1, [1])], s3: [stored], complete: [ready()] });
  const media = await upload(film(900), { ...options, ...resumable, storage: forbidden });
  end();
  assert.equal(media.status, "ready");
});

/** Links: a name, the seconds of a part by the number of lanes, and the number of lanes after 40 parts. */
for (const [name, seconds, expected] of [
  ["a fast link", () => 0.2, 4],
  ["a link with a limit for each connection", () => 10, 4],
  ["a link that is full", (lanes) => 10 * lanes, 1],
  ["a link that two lanes fill", (lanes) => 5 * Math.max(2, lanes), 2],
])
  test(`${name} gets ${expected} lanes`, () => {
    const lanes = new Lanes(4);
    const counts = [];
    for (let part = 0; part < 40; part += 1) {
      lanes.acknowledged(seconds(lanes.count), lanes.count);
      counts.push(lanes.count);
    }
    const median = counts.sort()[20];
    assert.equal(median, expected);
  });

test("a drop sets the lanes back to one", () => {
  const lanes = new Lanes(4);
  for (let part = 0; part < 5; part += 1) lanes.acknowledged(0.2, lanes.count);
  assert.equal(lanes.count, 4);
  lanes.dropped();
  assert.equal(lanes.count, 1);
});
