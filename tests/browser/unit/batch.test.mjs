import assert from "node:assert/strict";
import { test } from "node:test";

import { uploadAll } from "../../../broker/web/broker-upload.js";
import { issued, issuedParts, parts, problem, ready, storage, stored, world } from "./world.mjs";

const film = (name) => new File([new Uint8Array(4000)], name, { type: "video/mp4" });
const FILMS = [film("a.mp4"), film("b.mp4"), film("c.mp4")];
const accepted = (mediaId, more = {}) => issued({ media_id: mediaId, ...more }).body;
const rejected = (status, type, more) => problem(status, type, more).body;
const together = (...uploads) => ({ status: 201, body: { success: true, uploads } });
const three = () => together(accepted("m1"), accepted("m2"), accepted("m3"));
const times = (count, answer) => Array.from({ length: count }, answer);
const sent = (count) => ({ s3: times(count, () => stored), complete: times(count, ready) });

/** Each row: a name, the servers' answers, the requests to issue, and what became of each file. */
const STORIES = [
  ["several files are issued by one request", { uploads: [three()], ...sent(3) }, "uploads", "ready ready ready"],
  [
    "a refused file fails alone",
    { uploads: [together(accepted("m1"), rejected(422, "type-not-allowed"), accepted("m3"))], ...sent(2) },
    "uploads",
    "ready type-not-allowed ready",
  ],
  [
    "a batch is retried as a whole",
    { uploads: ["drop", "cut", problem(503, "database-away"), problem(429, "rate-limited"), three()], ...sent(3) },
    "uploads uploads uploads uploads uploads",
    "ready ready ready",
  ],
  [
    "a file that is over the rate limit asks again alone",
    {
      uploads: [together(accepted("m1"), accepted("m2"), rejected(429, "rate-limited", { retry_after: 0 }))],
      upload: [issued({ media_id: "m3" })],
      ...sent(3),
    },
    "uploads upload",
    "ready ready ready",
  ],
  [
    "a file that is over the quota of pending uploads asks again once others are uploaded",
    {
      uploads: [together(accepted("m1"), accepted("m2"), rejected(403, "quota-exceeded", { quota: "pending_count" }))],
      upload: [issued({ media_id: "m3" })],
      ...sent(3),
    },
    "uploads upload",
    "ready ready ready",
  ],
  [
    "a file that is over the quota of stored bytes fails alone",
    {
      uploads: [together(accepted("m1"), accepted("m2"), rejected(403, "quota-exceeded", { quota: "stored_bytes" }))],
      ...sent(2),
    },
    "uploads",
    "ready ready quota-exceeded",
  ],
  [
    "files ask alone if the body of the batch is refused",
    {
      uploads: [problem(422, "request-invalid")],
      upload: [issued(), problem(422, "request-invalid"), issued({ media_id: "m3" })],
      ...sent(2),
    },
    "uploads upload upload upload",
    "ready request-invalid ready",
  ],
  [
    "a batch is repeated with its key while an earlier request of the same may still issue",
    {
      uploads: [together(accepted("m1"), rejected(409, "idempotency-key-in-flight", { retry_after: 0 }), accepted("m3")), three()],
      ...sent(3),
    },
    "uploads uploads",
    "ready ready ready",
  ],
  [
    "a batch is repeated if it is not clear whether one of its uploads was issued",
    { uploads: [together(accepted("m1"), accepted("m2"), rejected(503, "database-away")), three()], ...sent(3) },
    "uploads uploads",
    "ready ready ready",
  ],
  [
    "a file that the broker cannot issue in any try ends alone",
    {
      uploads: times(5, () => together(accepted("m1"), rejected(503, "hook-away"), accepted("m3"))),
      upload: times(4, () => problem(503, "hook-away")),
      ...sent(2),
    },
    "uploads uploads uploads uploads uploads upload upload upload upload",
    "ready hook-away ready",
  ],
  [
    "a batch without permission is refused for all",
    { uploads: [problem(403, "permission-missing")] },
    "uploads",
    "permission-missing permission-missing permission-missing",
  ],
  [
    "a form that expired while other files were sent is replaced",
    {
      uploads: [together(accepted("m1", { expires_in: 5 }), accepted("m2"), accepted("m3"))],
      upload: [issued({ media_id: "m4" })],
      DELETE: [ready()],
      ...sent(3),
    },
    "uploads upload",
    "ready ready ready",
  ],
];
const ISSUING = ["upload", "uploads"];

for (const [name, answers, steps, ends] of STORIES) {
  test(name, async () => {
    const page = world(answers);
    const outcomes = await Promise.allSettled(uploadAll(FILMS, { ...page.options, attempts: 5 }));
    page.end();
    assert.equal(page.steps.filter((step) => ISSUING.includes(step)).join(" "), steps);
    assert.equal(outcomes.map(({ value, reason }) => value?.status ?? reason.code).join(" "), ends);
    const [first, ...repeated] = page.requests.filter(({ step }) => step === "uploads");
    assert.deepEqual(first.body.uploads.map(({ filename }) => filename), ["a.mp4", "b.mp4", "c.mp4"]);
    for (const { headers, body } of repeated) {
      assert.equal(headers["Idempotency-Key"], first.headers["Idempotency-Key"]);
      assert.deepEqual(body, first.body);
    }
    const removed = page.requests.filter(({ step }) => step === "DELETE").map(({ path }) => path);
    assert.deepEqual(removed, answers.DELETE ? ["m1"] : []);
  });
}

test("the tries of a batch are those of each file", async () => {
  const page = world({ uploads: ["drop", "drop"] });
  const outcomes = await Promise.allSettled(uploadAll(FILMS, { ...page.options, attempts: 2 }));
  page.end();
  assert.deepEqual(outcomes.map(({ reason }) => reason.code), ["unreachable", "unreachable", "unreachable"]);
  assert.equal(page.steps.join(" "), "uploads uploads");
});

test("each file has options and progress of its own, and a cancelled one is deleted", async () => {
  const page = world({ uploads: [three()], DELETE: [ready()], ...sent(2) });
  const stop = new AbortController();
  const states = [[], [], []];
  const each = (file, index) => ({
    metadata: { scene: String(index) },
    signal: index === 1 ? stop.signal : undefined,
    onProgress: ({ state }) => {
      states[index].push(state);
      if (index === 1) stop.abort();
    },
  });
  const outcomes = await Promise.allSettled(uploadAll(FILMS, page.options, each));
  page.end();
  assert.deepEqual(outcomes.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  const [request] = page.requests;
  assert.deepEqual(request.body.uploads.map(({ metadata }) => metadata.scene), ["0", "1", "2"]);
  assert.deepEqual(page.requests.filter(({ step }) => step === "DELETE").map(({ path }) => path), ["m2"]);
  assert.deepEqual(states[1], ["asking"]);
  assert.equal([...new Set(states[0])].join(" "), "asking waiting sending confirming ready");
});

test("a file that is paused before the answer goes on with it", async () => {
  const page = world({ uploads: [three()], ...sent(3) });
  const uploads = uploadAll(FILMS, page.options);
  uploads[2].pause();
  await Promise.all(uploads.slice(0, 2));
  uploads[2].resume();
  await uploads[2];
  page.end();
  assert.equal(page.steps.filter((step) => ISSUING.includes(step)).join(" "), "uploads");
});

test("a large file of a batch goes in parts", async () => {
  const answer = together(issuedParts(4, [1, 2, 3, 4]).body, accepted("m2"));
  const page = world({ uploads: [answer], s3: [...times(5, () => stored)], complete: times(2, ready) });
  await Promise.all(uploadAll(FILMS.slice(0, 2), page.options));
  page.end();
  const keys = page.requests.filter(({ step }) => step === "s3").map(({ form }) => new Map(form).get("key")).sort();
  assert.deepEqual(keys, ["staging/a", ...[1, 2, 3, 4].map((number) => `staging/a/${number}`)]);
});

test("one request has at most 100 files, and a single file needs no batch", async () => {
  const ids = (first, count) => together(...times(count, (_, index) => accepted(`m${first + index}`)));
  const page = world({ uploads: [ids(1, 100), ids(101, 2)], upload: [issued()], ...sent(103) });
  await Promise.all(uploadAll(times(102, () => FILMS[0]), page.options));
  await Promise.all(uploadAll([FILMS[0]], page.options));
  page.end();
  const asked = page.requests.filter(({ step }) => ISSUING.includes(step));
  assert.deepEqual(asked.map(({ body }) => body.uploads?.length), [100, 2, undefined]);
  assert.equal(new Set(asked.map(({ headers }) => headers["Idempotency-Key"])).size, 3);
});

test("files with a key of the application's are issued one by one, by keys of their own", async () => {
  const page = world({ upload: ["m1", "m2", "m3"].map((mediaId) => issued({ media_id: mediaId })), ...sent(3) });
  await Promise.all(uploadAll(FILMS, { ...page.options, idempotencyKey: "trip" }));
  page.end();
  const asked = page.requests.filter(({ step }) => ISSUING.includes(step));
  assert.deepEqual(asked.map(({ headers }) => headers["Idempotency-Key"]).sort(), ["trip 0", "trip 1", "trip 2"]);
});

test("large files that were paused for an hour get fresh forms before any is sent", async (context) => {
  const page = world({
    uploads: [together(issuedParts(4, [1, 2, 3, 4]).body, accepted("m2"))],
    parts: [parts(4, [1, 2, 3, 4])],
    ...sent(5),
  });
  const uploads = uploadAll(FILMS.slice(0, 2), page.options);
  uploads[0].pause();
  await uploads[1];
  const now = Date.now();
  context.mock.method(Date, "now", () => now + 3_600_000);
  uploads[0].resume();
  await uploads[0];
  page.end();
  assert.equal(page.steps.join(" "), "uploads s3 complete parts s3 s3 s3 s3 complete");
});

test("a file that this browser remembers does not need the request", async () => {
  const memory = storage();
  const options = { storage: memory, resumableOver: 1000, attempts: 2 };
  const before = world({ upload: [issuedParts(4, [1, 2, 3, 4])], s3: [problem(403, "refused")] });
  await assert.rejects(uploadAll([FILMS[0]], { ...before.options, ...options })[0]);
  before.end();
  const page = world({
    uploads: times(2, () => problem(429, "rate-limited")),
    parts: [parts(4, [4], [1, 2, 3])],
    ...sent(1),
  });
  let tokens = 0;
  const getToken = () => `token ${(tokens += 1)}`;
  const outcomes = await Promise.allSettled(uploadAll(FILMS, { ...page.options, ...options, getToken }));
  page.end();
  assert.deepEqual(outcomes.map(({ value, reason }) => value?.status ?? reason.code), ["ready", "rate-limited", "rate-limited"]);
  assert.equal(tokens, 1 + page.requests.filter(({ step }) => step !== "s3").length, "one tells the owner of all files");
});

test("a listener that throws fails its own file", async () => {
  const page = world({ uploads: [three()], ...sent(2) });
  const each = (_, index) => ({
    onProgress: () => {
      if (index === 1) throw new RangeError("a bar is missing");
    },
  });
  const outcomes = await Promise.allSettled(uploadAll(FILMS, page.options, each));
  page.end();
  assert.deepEqual(outcomes.map(({ value, reason }) => value?.status ?? reason.name), ["ready", "RangeError", "ready"]);
});

test("the request ends with its last file, also if one was cancelled before", async () => {
  const page = world({ uploads: ["drop"] });
  const stop = new AbortController();
  const each = (_, index) => ({
    signal: index === 0 ? AbortSignal.abort() : stop.signal,
    onProgress: ({ state }) => state === "retrying" && stop.abort(),
  });
  const outcomes = await Promise.allSettled(uploadAll(FILMS, page.options, each));
  page.end();
  assert.deepEqual(outcomes.map(({ reason }) => reason.name), ["AbortError", "AbortError", "AbortError"]);
  assert.equal(page.steps.join(" "), "uploads");
});

test("an application that issues is asked for each file", async () => {
  const page = world(sent(3));
  let asked = 0;
  const issue = () => accepted(`m${(asked += 1)}`);
  await Promise.all(uploadAll(FILMS, { ...page.options, issue }));
  page.end();
  assert.equal(asked, 3);
});

test("an address that is not valid fails each file", async () => {
  const outcomes = await Promise.allSettled(uploadAll(FILMS, { prefix: "https://", getToken: () => "token" }));
  assert.deepEqual(outcomes.map(({ reason }) => reason.name), ["TypeError", "TypeError", "TypeError"]);
});
