import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { Crc64Nvme, Sha256, checksumOf } from "../../../broker/web/checksum-worker.js";

const inPieces = (hash, bytes) => {
  for (let at = 0; at < bytes.length; at += 777) hash.update(bytes.subarray(at, at + 777));
  return Buffer.from(hash.digest());
};

for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 4 * 1024 * 1024 + 1])
  test(`${length} bytes, in pieces of 777, hash to what node's own SHA-256 says`, async () => {
    const bytes = randomBytes(length);
    const expected = createHash("sha256").update(bytes).digest("base64");
    assert.equal(inPieces(new Sha256(), bytes).toString("base64"), expected);
    assert.equal(await checksumOf(new Blob([bytes]), "sha256"), expected);
  });

// The first row is the check value of the CRC RevEng catalogue, "CRC-64/NVME"; the others are of the AWS CRT (awscrt).
for (const [name, bytes, expected] of [
  ["123456789", Buffer.from("123456789"), "ae8b14860a799888"],
  ["nothing", Buffer.alloc(0), "0000000000000000"],
  ["3,000 zeros", Buffer.alloc(3000), "fe72e81722b35fbd"],
  ["3,000 bytes that count", Buffer.from(Array.from({ length: 3000 }, (_, index) => index & 0xff)), "3b74bfc8aa6f7492"],
])
  test(`the CRC-64/NVME of ${name} is ${expected}`, async () => {
    assert.equal(inPieces(new Crc64Nvme(), bytes).toString("hex"), expected);
    assert.equal(Buffer.from(await checksumOf(new Blob([bytes]), "crc64nvme"), "base64").toString("hex"), expected);
  });
