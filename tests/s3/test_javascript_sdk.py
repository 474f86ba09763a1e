"""The AWS SDK for JavaScript: `createPresignedPost`, and uploads by lib-storage."""

import json
import subprocess
from collections.abc import Callable
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.npm import packages
from tests.support.programs import program

MIB = 1024 * 1024
SDK = ("@aws-sdk/client-s3@3.1175.0", "@aws-sdk/lib-storage@3.1175.0", "@aws-sdk/s3-presigned-post@3.1164.0")
CLIENT = """
import { S3Client } from "@aws-sdk/client-s3";

const { endpoint, region, bucket, accessKeyId, secretAccessKey, ...input } = JSON.parse(process.argv[2]);
const credentials = { accessKeyId, secretAccessKey };
const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
"""
PRESIGN_POST = """
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";

const post = await createPresignedPost(client, {
  Bucket: bucket,
  Key: "staging/${filename}",
  Conditions: [["content-length-range", 1, 10], ["starts-with", "$Content-Type", "video/"]],
  Fields: { "Content-Type": "video/mp4", success_action_status: "201" },
  Expires: 60,
});
const send = async (content) => {
  const form = new FormData();
  for (const [name, value] of Object.entries(post.fields)) form.append(name, value);
  form.append("file", new Blob([content], { type: "video/mp4" }), "clip.mp4");
  const answer = await fetch(post.url, { method: "POST", body: form });
  return { status: answer.status, etag: answer.headers.get("etag"), body: await answer.text() };
};
console.log(JSON.stringify({ accepted: await send("0123456789"), refused: await send("0123456789x") }));
"""
UPLOAD = """
import { Upload } from "@aws-sdk/lib-storage";

const upload = new Upload({
  client,
  partSize: 5 * 1024 * 1024,
  params: {
    Bucket: bucket,
    Key: "film.mp4",
    Body: Buffer.alloc(input.size, "film"),
    ContentType: "video/mp4",
    Metadata: { title: input.title },
  },
});
console.log(JSON.stringify(await upload.done()));
"""


@pytest.fixture
def run(embedded_s3: EmbeddedS3, bucket: str) -> Callable[..., Any]:
    """Return a function that runs a script with a client of the bucket, and returns the JSON that it prints."""
    folder: Path = packages(*SDK)
    settings = {
        "endpoint": embedded_s3.endpoint_url,
        "region": embedded_s3.region,
        "bucket": bucket,
        "accessKeyId": embedded_s3.access_key,
        "secretAccessKey": embedded_s3.secret_key,
    }

    def run_script(script: str, **script_input: object) -> Any:
        finished = subprocess.run(
            [program("node"), "--input-type=module", "-", json.dumps({**settings, **script_input})],
            input=CLIENT + script,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return run_script


@pytest.mark.timeout(400)  # The first run installs the SDK.
def test_a_presigned_post_of_the_sdk_accepts_its_file_and_refuses_a_larger_one(
    run: Callable[..., Any], stored: Callable[[], list[str]]
) -> None:
    answers = run(PRESIGN_POST)
    assert answers["accepted"]["status"] == 201
    assert "<Key>staging/clip.mp4</Key>" in answers["accepted"]["body"]
    assert answers["refused"]["status"] == 400
    assert "<Code>EntityTooLarge</Code>" in answers["refused"]["body"]
    assert stored() == ["staging/clip.mp4"]


@pytest.mark.timeout(400)  # The first run installs the SDK.
@pytest.mark.parametrize("size", [1 * MIB, 11 * MIB], ids=["in one request", "in parts"])
def test_lib_storage_uploads_with_metadata_outside_of_ascii(
    run: Callable[..., Any], s3_client: Any, bucket: str, size: int
) -> None:
    # Node.js sends header values as Latin-1, and refuses other characters. The SDK signs the same text as UTF-8.
    title = "Größe: café"
    answer = run(UPLOAD, size=size, title=title)
    head = s3_client.head_object(Bucket=bucket, Key="film.mp4")
    assert (head["ETag"], head["ContentLength"]) == (answer["ETag"], size)
    # S3 returns such metadata encoded as RFC 2047 describes.
    assert head["Metadata"]["title"].isascii()
    assert str(make_header(decode_header(head["Metadata"]["title"]))) == title
    assert s3_client.get_object(Bucket=bucket, Key="film.mp4")["Body"].read() == b"film" * (size // 4)
