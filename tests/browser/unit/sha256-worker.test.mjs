import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { Sha256, digestOf } from "../../../broker/web/sha256-worker.js";

for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 4 * 1024 * 1024 + 1])
  test(`${length} bytes, in pieces of 777, hash to what node's own SHA-256 says`, async () => {
    const bytes = randomBytes(length);
    const hash = new Sha256();
    for (let at = 0; at < length; at += 777) hash.update(bytes.subarray(at, at + 777));
    const expected = createHash("sha256").update(bytes).digest("base64");
    assert.equal(Buffer.from(hash.digest()).toString("base64"), expected);
    assert.equal(await digestOf(new Blob([bytes])), expected);
  });
