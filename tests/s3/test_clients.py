"""The standard clients, as they are: the aws command line, boto3, and the JavaScript SDK."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import httpx
import pytest

MIB = 1024 * 1024
SDK = ["@aws-sdk/client-s3@^3.900.0", "@aws-sdk/s3-presigned-post@^3.900.0"]
PRESIGN_POST = """
import { S3Client } from "@aws-sdk/client-s3";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";

const { endpoint, region, bucket, accessKeyId, secretAccessKey } = JSON.parse(process.argv[2]);
const client = new S3Client({
  endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey },
});
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


def program(name: str) -> str:
    """Return the path of a program; a machine without it skips the test, but never CI."""
    beside_python = Path(sys.executable).with_name(name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        if "CI" in os.environ:
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def aws(embedded_s3, tmp_path):
    """Return a function that runs the aws command line without any configuration but the environment's."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": embedded_s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": embedded_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key,
        "AWS_DEFAULT_REGION": embedded_s3.region,
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program("aws"), *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_aws_command_line_copies_heads_and_presigns(aws, bucket, tmp_path):
    # Above 8 MB the command line uploads in parts and downloads in ranges.
    film, back = tmp_path / "film.mp4", tmp_path / "back.mp4"
    film.write_bytes(os.urandom(9 * MIB))
    aws("s3", "cp", str(film), f"s3://{bucket}/in/film.mp4")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "in/film.mp4"))
    assert (head["ContentLength"], head["ContentType"]) == (9 * MIB, "video/mp4")
    assert head["ETag"].endswith('-2"')
    url = aws("s3", "presign", f"s3://{bucket}/in/film.mp4", "--expires-in", "60").strip()
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    assert httpx.get(url).content == film.read_bytes()
    aws("s3", "cp", f"s3://{bucket}/in/film.mp4", f"s3://{bucket}/out.mp4")
    aws("s3", "cp", f"s3://{bucket}/out.mp4", str(back))
    assert back.read_bytes() == film.read_bytes()
    assert "in/film.mp4" in aws("s3", "ls", "--recursive", f"s3://{bucket}")
    aws("s3", "rm", "--recursive", f"s3://{bucket}")
    assert aws("s3", "ls", "--recursive", f"s3://{bucket}") == ""


def test_boto3_with_its_defaults(embedded_s3, bucket, tmp_path):
    s3 = boto3.client(
        "s3",
        endpoint_url=embedded_s3.endpoint_url,
        aws_access_key_id=embedded_s3.access_key,
        aws_secret_access_key=embedded_s3.secret_key,
        region_name=embedded_s3.region,
    )
    film, back = tmp_path / "film.mp4", tmp_path / "back.mp4"
    film.write_bytes(os.urandom(20 * MIB))
    s3.upload_file(str(film), bucket, "film.mp4", ExtraArgs={"ContentType": "video/mp4"})
    s3.download_file(bucket, "film.mp4", str(back))
    assert back.read_bytes() == film.read_bytes()
    with film.open("rb") as stream:
        s3.put_object(Bucket=bucket, Key="whole.mp4", Body=stream)
    head = s3.head_object(Bucket=bucket, Key="whole.mp4", ChecksumMode="ENABLED")
    assert head["ChecksumType"] == "FULL_OBJECT"
    assert head["ChecksumCRC32"]
    # With checksum validation on, as it is, a body that differs would be an error here.
    assert s3.get_object(Bucket=bucket, Key="whole.mp4")["Body"].read() == film.read_bytes()
    s3.copy({"Bucket": bucket, "Key": "film.mp4"}, bucket, "copy.mp4")
    post = s3.generate_presigned_post(bucket, "posted", Conditions=[["content-length-range", 1, 5]])
    for content, status in ((b"12345", 204), (b"123456", 400)):
        answer = httpx.post(post["url"], data=post["fields"], files={"file": ("a", content)})
        assert answer.status_code == status
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["copy.mp4", "film.mp4", "posted", "whole.mp4"]


@pytest.fixture(scope="session")
def javascript_sdk() -> Path:
    """Install the JavaScript SDK beside the tests' other caches, once for this machine."""
    npm = program("npm")
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "s3-media-broker" / "js-sdk"
    if not (folder / "node_modules" / "@aws-sdk" / "s3-presigned-post").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([npm, "install", *quiet, *SDK], cwd=folder, check=True, timeout=300)
    return folder


@pytest.mark.timeout(400)
def test_the_javascript_sdks_create_presigned_post(javascript_sdk, embedded_s3, bucket, stored):
    script = javascript_sdk / "presign-post.mjs"
    script.write_text(PRESIGN_POST)
    told = {
        "endpoint": embedded_s3.endpoint_url,
        "region": embedded_s3.region,
        "bucket": bucket,
        "accessKeyId": embedded_s3.access_key,
        "secretAccessKey": embedded_s3.secret_key,
    }
    done = subprocess.run([program("node"), str(script), json.dumps(told)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["accepted"]["status"] == 201
    assert "<Key>staging/clip.mp4</Key>" in answers["accepted"]["body"]
    assert answers["refused"]["status"] == 400
    assert "<Code>EntityTooLarge</Code>" in answers["refused"]["body"]
    assert stored() == ["staging/clip.mp4"]
