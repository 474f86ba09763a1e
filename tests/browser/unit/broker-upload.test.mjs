import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

import * as helper from "../../../broker/web/broker-upload.js";
import {
  BUCKET,
  answerLost,
  dropped,
  hangs,
  issued,
  problem,
  ready,
  refused,
  silent,
  stored,
  world,
} from "./world.mjs";

const { UploadError, contentTypeOf, inWords, limitTo, upload } = helper;
const film = (name = "film.mp4", type = "video/mp4") => new File([new Uint8Array(4000)], name, { type });

/** Each row: a name, the servers' answers, and the requests that the helper makes. */
const STORIES = [
  [
    "an upload is issued, sent and completed",
    { upload: [issued()], s3: [stored], complete: [ready()] },
    "upload s3 complete",
  ],
  [
    "a dropped connection is sent again with the same policy",
    { upload: [issued()], s3: [dropped, stored], complete: [ready()] },
    "upload s3 s3 complete",
  ],
  [
    "a file that arrived is not sent again after a lost answer",
    { upload: [issued()], s3: [answerLost], complete: [ready()] },
    "upload s3 complete",
  ],
  [
    "a file that did not arrive is sent again after a lost answer",
    { upload: [issued()], s3: [answerLost, stored], complete: [problem(409, "nothing-uploaded"), ready()] },
    "upload s3 complete s3 complete",
  ],
  [
    "a busy S3 is retried",
    { upload: [issued()], s3: [refused(503, "SlowDown"), refused(500, "InternalError"), stored], complete: [ready()] },
    "upload s3 s3 s3 complete",
  ],
  [
    "an unavailable broker is retried",
    {
      upload: ["drop", "cut", problem(503, "storage-away"), issued()],
      s3: [stored],
      complete: ["drop", "cut", problem(503, "storage-away"), ready()],
    },
    "upload upload upload upload s3 complete complete complete complete",
  ],
  [
    "an expired policy is renewed",
    {
      upload: [issued(), issued()],
      s3: [refused(403, "AccessDenied", "Invalid according to Policy: Policy expired."), stored],
      complete: [ready()],
    },
    "upload s3 upload s3 complete",
  ],
  [
    "a policy whose session token has expired is renewed",
    { upload: [issued(), issued()], s3: [refused(400, "ExpiredToken"), stored], complete: [ready()] },
    "upload s3 upload s3 complete",
  ],
  [
    "a policy that is about to expire is not used for a retry",
    { upload: [issued({ expires_in: 5 }), issued()], s3: [dropped, stored], complete: [ready()] },
    "upload s3 upload s3 complete",
  ],
  [
    "an expired media is replaced by a new one",
    { upload: [issued(), issued()], s3: [stored, stored], complete: [problem(410, "upload-expired"), ready()] },
    "upload s3 complete upload s3 complete",
  ],
  [
    "the helper waits for a running confirmation without limit, and sends nothing again",
    { upload: [issued()], s3: [answerLost], complete: [...Array(20).fill(problem(409, "promotion-running")), ready()] },
    `upload s3${" complete".repeat(21)}`,
  ],
  [
    "a file that arrived in an earlier try is only completed",
    { upload: [issued({ upload: null })], complete: [ready()] },
    "upload complete",
  ],
  [
    "a stored file that S3 does not list yet is completed again, not sent again",
    { upload: [issued()], s3: [stored], complete: [problem(409, "nothing-uploaded"), ready()] },
    "upload s3 complete complete",
  ],
];

for (const [name, answers, expected] of STORIES)
  test(name, async () => {
    const { steps, options, end } = world(answers);
    const media = await upload(film(), options);
    end();
    assert.equal(media.status, "ready");
    assert.equal(steps.join(" "), expected);
  });

/** Failures that no retry can fix: a name, the answers, the error's code and message, and the requests. */
const ENDINGS = [
  [
    "a file that S3 finds too large",
    { upload: [issued()], s3: [refused(400, "EntityTooLarge")] },
    "EntityTooLarge",
    /^The file is larger than 100 MB\. Choose a smaller one\.$/,
    "upload s3",
  ],
  [
    "a file that the broker finds too large",
    { upload: [problem(422, "size-not-allowed", { max_size: 2000 })] },
    "size-not-allowed",
    /^The file is larger than 2 kB\./,
    "upload",
  ],
  [
    "a type that the broker does not accept",
    { upload: [problem(422, "type-not-allowed")] },
    "type-not-allowed",
    /type-not-allowed!/,
    "upload",
  ],
  [
    "a signature that S3 does not accept",
    { upload: [issued()], s3: [refused(403, "SignatureDoesNotMatch", "no match")] },
    "SignatureDoesNotMatch",
    /SignatureDoesNotMatch: no match.*broker doctor/,
    "upload s3",
  ],
  [
    "a rejected upload",
    { upload: [issued()], s3: [stored], complete: [problem(422, "upload-rejected")] },
    "upload-rejected",
    /upload-rejected!/,
    "upload s3 complete",
  ],
  [
    "a bucket whose CORS does not list the page",
    { upload: [issued()], s3: [silent, silent] },
    "cors",
    /^Your bucket's CORS does not list this origin \(https:\/\/app\.example\)\..*AllowedOrigins/,
    "upload s3 probe s3 probe",
  ],
  [
    "an address that is not a broker's, but answers every request",
    { upload: [{ status: 200, body: {} }] },
    "not-a-broker",
    /^https:\/\/api\.example\/api\/v1\/s3-media\/ is not the address of a broker\. Check the prefix/,
    "upload",
  ],
  [
    "a token that is refused twice",
    { upload: [problem(401, "not-authenticated"), problem(401, "not-authenticated")] },
    "not-authenticated",
    /./,
    "upload upload",
  ],
];

for (const [name, answers, code, sentence, expected] of ENDINGS)
  test(`${name} is an error with its cause and its fix`, async () => {
    const { steps, options, end } = world(answers);
    await assert.rejects(upload(film(), options), (error) => {
      assert.ok(error instanceof UploadError);
      assert.equal(error.code, code);
      assert.match(error.message, sentence);
      return true;
    });
    end();
    assert.equal(steps.join(" "), expected);
  });

test("an offline device waits for its network, and spends no attempt", async () => {
  const { steps, options, goOnline, end } = world(
    { upload: [...Array(20).fill("drop"), issued()], s3: [stored], complete: [ready()] },
    { onLine: false },
  );
  const states = [];
  const onProgress = ({ state, failures }) => {
    states.push(`${state} ${failures}`);
    if (state === "offline") queueMicrotask(() => goOnline({ isReally: steps.length === 20 }));
  };
  const media = await upload(film(), { ...options, attempts: 1, onProgress });
  end();
  assert.equal(media.status, "ready");
  assert.equal(states.filter((state) => state === "offline 0").length, 20);
  assert.equal(states.at(-1), "ready 0");
});

test("an abort ends the wait for the network", async () => {
  const { options, end } = world({ upload: ["drop"] }, { onLine: false });
  const controller = new AbortController();
  const onProgress = ({ state }) => state === "offline" && queueMicrotask(() => controller.abort());
  await assert.rejects(upload(film(), { ...options, onProgress, signal: controller.signal }), { name: "AbortError" });
  end();
});

test("an absent bucket is reported as unreachable, not as a CORS error", async () => {
  const { options, end } = world({ upload: [issued()], s3: [silent, silent, silent] }, { bucketIsThere: false });
  await assert.rejects(upload(film(), { ...options, attempts: 3 }), { code: "unreachable" });
  end();
});

test("the key survives retries and renewals, and changes with a new media", async () => {
  const { requests, options, end } = world({
    upload: ["drop", issued(), issued(), issued()],
    s3: [refused(403, "AccessDenied", "Policy expired."), stored, stored],
    complete: [problem(410, "upload-expired"), ready()],
  });
  await upload(film(), options);
  end();
  const [first, second, third, fourth] = requests
    .filter(({ step }) => step === "upload")
    .map(({ headers }) => headers["Idempotency-Key"]);
  assert.match(first, /^[0-9a-f]{32}$/);
  assert.deepEqual([second, third], [first, first]);
  assert.notEqual(fourth, first);
});

test("the form carries the policy's fields, the file last, and no header of its own", async () => {
  const { requests, options, end } = world({ upload: [issued()], s3: [stored], complete: [ready()] });
  await upload(film(), options);
  end();
  const { url, headers, form } = requests.find(({ step }) => step === "s3");
  assert.deepEqual(
    form.map(([name]) => name),
    ["key", "Content-Type", "file"],
  );
  assert.deepEqual([url, headers], [BUCKET, {}]);
});

test("the request names type, size and name, and omits unset options", async () => {
  const { requests, options, end } = world({ upload: [issued()], s3: [stored], complete: [ready()] });
  await upload(film("trip.MOV", ""), { ...options, durationSeconds: 3, metadata: { album: "a" } });
  end();
  assert.deepEqual(requests[0].body, {
    content_type: "video/quicktime",
    size: 4000,
    filename: "trip.MOV",
    duration_seconds: 3,
    metadata: { album: "a" },
  });
});

test("the Retry-After of the broker is respected", async () => {
  const { options, end } = world({
    upload: [problem(429, "too-many-requests", {}, { "Retry-After": "0.02" }), issued()],
    s3: [stored],
    complete: [ready()],
  });
  const waits = [];
  await upload(film(), { ...options, onProgress: ({ state, delay }) => state === "retrying" && waits.push(delay) });
  end();
  assert.deepEqual(waits, [0.02]);
});

test("progress counts only the file's bytes, and restarts when the file is sent again", async () => {
  const { options, end } = world({ upload: [issued()], s3: [dropped, stored], complete: [ready()] });
  const reports = [];
  await upload(film(), { ...options, onProgress: ({ state, loaded }) => reports.push(`${state} ${loaded}`) });
  end();
  assert.deepEqual(reports, [
    "waiting 0",
    "asking 0",
    "sending 0",
    "sending 1500",
    "retrying 0",
    "sending 0",
    "sending 4000",
    "confirming 4000",
    "ready 4000",
  ]);
});

test("the timeout of S3's answer is longer than that of a stalled transfer", async (t) => {
  const turns = async () => {
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  };
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const [hung, patience] of [
    [hangs, 60],
    [{ ...hangs, sent: 1 }, 120],
  ]) {
    const { steps, options, end } = world({ upload: [issued()], s3: [hung, stored], complete: [ready()] });
    const media = upload(film(), options);
    await turns();
    t.mock.timers.tick((patience - 1) * 1000);
    assert.deepEqual(steps, ["upload", "s3"]);
    t.mock.timers.tick(2000);
    await turns();
    t.mock.timers.tick(1);
    assert.equal((await media).status, "ready");
    assert.equal(steps[2], "abort");
    end();
  }
});

test("an abort stops the transfer, rejects with the signal's reason and deletes the media", async () => {
  const { steps, options, end } = world({ upload: [issued()], s3: [hangs], DELETE: [{ status: 200, body: {} }] });
  const controller = new AbortController();
  const onProgress = ({ loaded }) => loaded > 0 && controller.abort();
  await assert.rejects(upload(film(), { ...options, onProgress, signal: controller.signal }), { name: "AbortError" });
  await new Promise(setImmediate);
  end();
  assert.deepEqual(steps, ["upload", "s3", "abort", "DELETE"]);
});

test("an abort just before the transfer sends nothing", async () => {
  const { steps, options, end } = world({ upload: [issued()], DELETE: [{ status: 200, body: {} }] });
  const controller = new AbortController();
  const onProgress = ({ state }) => state === "sending" && controller.abort();
  await assert.rejects(upload(film(), { ...options, onProgress, signal: controller.signal }), { name: "AbortError" });
  await new Promise(setImmediate);
  end();
  assert.deepEqual(steps, ["upload", "DELETE"]);
});

test("an abort after a pause and a resume deletes the media that the application issues meanwhile", async () => {
  const { steps, options, end } = world({ DELETE: [ready()] });
  const controller = new AbortController();
  const issue = async () => {
    running.pause();
    running.resume();
    controller.abort();
    return issued().body;
  };
  const running = upload(film(), { ...options, issue, signal: controller.signal });
  await assert.rejects(running, controller.signal.reason);
  await new Promise(setImmediate);
  end();
  assert.deepEqual(steps, ["DELETE"]);
});

for (const name of ["the broker", "the application"])
  test(`an abort while ${name} issues deletes the media of the answer`, async () => {
    const { steps, requests, options, end } = world({ DELETE: [ready()] });
    let give;
    const answer = new Promise((resolve) => (give = () => resolve(issued({ upload_token: "only for m1" }).body)));
    const scripted = globalThis.fetch;
    globalThis.fetch = async (url, request) => {
      if (request.method === "DELETE") return scripted(url, request);
      const ended = new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(request.signal.reason)));
      return Response.json(await Promise.race([answer, ended]), { status: 201 });
    };
    const issue = name === "the application" ? () => answer : undefined;
    const controller = new AbortController();
    let asking;
    const onProgress = ({ state }) => (asking ||= state === "asking");
    const running = upload(film(), { ...options, issue, storage: null, onProgress, signal: controller.signal });
    while (!asking) await new Promise(setImmediate);
    controller.abort();
    await assert.rejects(running, { name: "AbortError" });
    assert.deepEqual(steps, []);
    give();
    while (steps.length === 0) await new Promise(setImmediate);
    end();
    assert.deepEqual([requests[0].path, requests[0].headers.Authorization], ["m1", "Bearer only for m1"]);
  });

test("a pause while the broker issues ends the request, and the next one has its key", async () => {
  const { requests, options, end } = world({ upload: [issued()], s3: [stored], complete: [ready()] });
  const scripted = globalThis.fetch;
  const keys = [];
  globalThis.fetch = async (url, request) => {
    if (keys.length > 0) return scripted(url, request);
    keys.push(request.headers["Idempotency-Key"]);
    return new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(request.signal.reason)));
  };
  const running = upload(film(), { ...options, storage: null });
  while (keys.length === 0) await new Promise(setImmediate);
  running.pause();
  running.resume();
  await running;
  end();
  assert.equal(requests[0].headers["Idempotency-Key"], keys[0]);
});

test("a pause that follows a resume at once keeps the upload paused", async () => {
  const { steps, options, end } = world({ upload: [issued()], s3: [stored], complete: [ready()] });
  const states = [];
  const running = upload(film(), { ...options, storage: null, onProgress: ({ state }) => states.push(state) });
  running.pause();
  await new Promise(setImmediate);
  running.resume();
  running.pause();
  await new Promise(setImmediate);
  assert.deepEqual([steps, states.at(-1)], [[], "paused"]);
  running.resume();
  assert.equal((await running).status, "ready");
  end();
});

for (const more of [{}, { upload_token: "only for m1" }])
  test(`an issued upload that expired before it was sent is an error of its own ${JSON.stringify(more)}`, async () => {
    const { steps, end } = world({ s3: [refused(403, "AccessDenied", "Invalid according to Policy: Policy expired.")] });
    const complete_url = "https://api.example/api/v1/s3-media/m1/complete";
    const answer = issued({ complete_url, ...more }).body;
    await assert.rejects(upload(film(), { issued: answer }), {
      code: "expired",
      message: "The permission to upload has expired. Reload the page.",
    });
    end();
    assert.deepEqual(steps, ["s3"]);
  });

for (const [answer, message] of [
  [{ detail: "You have used up your quota." }, "You have used up your quota."],
  [undefined, "The application's answer is not the one of the broker."],
])
  test(`an application's answer that is not the broker's is an error: ${JSON.stringify(answer)}`, async () => {
    const { steps, options, end } = world({});
    const loads = [];
    const onProgress = ({ loaded }) => loads.push(loaded);
    await assert.rejects(upload(film(), { ...options, issue: async () => answer, onProgress }), {
      code: "application",
      message,
    });
    end();
    assert.deepEqual([steps, Math.max(...loads)], [[], 0]);
  });

test("an abort during the wait for a retry ends the wait", async () => {
  const { steps, options, end } = world({ upload: [problem(503, "storage-away", {}, { "Retry-After": "60" })] });
  const controller = new AbortController();
  const onProgress = ({ state }) => state === "retrying" && setTimeout(() => controller.abort(), 5);
  await assert.rejects(upload(film(), { ...options, onProgress, signal: controller.signal }), { name: "AbortError" });
  end();
  assert.deepEqual(steps, ["upload"]);
});

test("a fresh token is requested once the old one is refused", async () => {
  const { requests, options, end } = world({
    upload: [problem(401, "not-authenticated"), issued()],
    s3: [stored],
    complete: [ready()],
  });
  await upload(film(), { ...options, getToken: ({ renewed }) => (renewed ? "new" : "old") });
  end();
  assert.deepEqual(
    requests.slice(0, 2).map(({ headers }) => headers.Authorization),
    ["Bearer old", "Bearer new"],
  );
});

test("a limit admits uploads in order, and an aborted one leaves the queue", async () => {
  const limit = limitTo(2);
  const entered = [];
  const enter = async (name, signal) => {
    const leave = await limit.enter(signal);
    entered.push(name);
    return leave;
  };
  const controller = new AbortController();
  const [a, , c, d] = [enter("a"), enter("b"), enter("c", controller.signal), enter("d")];
  await new Promise(setImmediate);
  assert.deepEqual(entered, ["a", "b"]);
  controller.abort();
  await assert.rejects(c, { name: "AbortError" });
  const leave = await a;
  leave();
  leave(); // leaving twice frees only one place
  await d;
  assert.deepEqual(entered, ["a", "b", "d"]);
  const waiting = enter("e");
  await new Promise(setImmediate);
  assert.equal(entered.includes("e"), false);
  (await d)();
  await waiting;
});

for (const [name, type, expected] of [
  ["a.mp4", "video/mp4", "video/mp4"],
  ["a.MKV", "", "video/x-matroska"],
  ["a.ts", "text/vnd.trolltech.linguist", "video/mp2t"],
  ["a.txt", "text/plain", "text/plain"],
  ["nothing", "", "application/octet-stream"],
])
  test(`${name} of type "${type}" is ${expected}`, () => assert.equal(contentTypeOf(film(name, type)), expected));

for (const [bytes, words] of [
  [1500, "1.5 kB"],
  [100_000_000, "100 MB"],
  [5 * 1024 ** 3, "5.4 GB"],
  [2_000_000, "2 MB"],
])
  test(`${bytes} bytes are ${words}`, () => assert.equal(inWords(bytes), words));

test("the types declare exactly what the module exports", async () => {
  const types = await readFile(new URL("../../../broker/web/broker-upload.d.ts", import.meta.url), "utf8");
  const declared = [...types.matchAll(/^export (?:function|class) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(helper).sort());
});

test("the types name every code that the modules give an error", async () => {
  const web = new URL("../../../broker/web/", import.meta.url);
  const types = await readFile(new URL("broker-upload.d.ts", web), "utf8");
  const [, listed] = /or one of ([\w\s,*-]+)\. \*\//.exec(types);
  const scripts = (await readdir(web, { recursive: true })).filter((name) => name.endsWith(".js"));
  const sources = await Promise.all(scripts.map((name) => readFile(new URL(name, web), "utf8")));
  const given = sources.flatMap((source) => [...source.matchAll(/new UploadError\((?:[^,]*\? )?"([\w-]+)"(?: : "([\w-]+)")?/g)]);
  const codes = new Set(given.flatMap(([, ...names]) => names.filter(Boolean)));
  assert.deepEqual(new Set(listed.match(/[\w-]+/g)), codes);
});
