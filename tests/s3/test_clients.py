"""Standard clients with their default settings: the aws command line, rclone and boto3."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import boto3
import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.programs import program

MIB = 1024 * 1024
Run = Callable[..., str]


@pytest.fixture
def aws(embedded_s3: EmbeddedS3, tmp_path: Path) -> Run:
    """Return a function that runs the aws command line, configured by its environment alone."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "AWS_ENDPOINT_URL": embedded_s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": embedded_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key,
        "AWS_DEFAULT_REGION": embedded_s3.region,
    }
    return lambda *arguments: _run("aws", *arguments, environment=environment)


@pytest.fixture
def rclone(embedded_s3: EmbeddedS3, tmp_path: Path) -> Run:
    """Return a function that runs rclone with a remote `s3:` as the guide describes it.

    The keyword `acl` replaces the remote's ACL. An empty one stands for rclone's default.
    """

    def run(*arguments: str, acl: str = "bucket-owner-full-control") -> str:
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": embedded_s3.endpoint_url,
            "REGION": embedded_s3.region,
            "ACCESS_KEY_ID": embedded_s3.access_key,
            "SECRET_ACCESS_KEY": embedded_s3.secret_key,
            "ACL": acl,
        }
        settings = {f"RCLONE_CONFIG_S3_{name}": value for name, value in remote.items() if value}
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **settings}
        return _run(
            "rclone",
            f"--config={os.devnull}",
            "--retries=1",
            "--low-level-retries=1",
            *arguments,
            environment=environment,
        )

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three files. One is large enough for an upload in parts, and one has an unusual name."""
    contents = {"notes.txt": b"notes", "in/film.mp4": os.urandom(9 * MIB), "in/é + 映画 & 100%.mp4": os.urandom(1000)}
    for name, content in contents.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # S3 cuts fractions of a second off, so a file of this second would seem newer than its upload.
        os.utime(path, (time() - 60, time() - 60))
    return tmp_path / "folder"


def test_the_aws_command_line_copies_heads_and_presigns(aws: Run, bucket: str, tmp_path: Path) -> None:
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


def test_aws_s3_sync_transfers_only_the_differences(aws: Run, bucket: str, folder: Path, tmp_path: Path) -> None:
    remote, back = f"s3://{bucket}/backup", tmp_path / "back"
    uploaded = aws("s3", "sync", "--no-progress", str(folder), remote)
    assert uploaded.count("upload: ") == 3
    assert aws("s3", "sync", "--no-progress", str(folder), remote) == ""
    aws("s3", "sync", "--no-progress", remote, str(back))
    assert _files(back) == _files(folder)

    (folder / "notes.txt").write_bytes(b"longer notes")
    (folder / "in/film.mp4").unlink()
    changes = aws("s3", "sync", "--no-progress", "--delete", str(folder), remote).splitlines()
    assert sorted(line.partition(":")[0] for line in changes) == ["delete", "upload"]
    aws("s3", "sync", "--no-progress", "--delete", remote, str(back))
    assert _files(back) == _files(folder)


def test_rclone_copies_checks_and_syncs(rclone: Run, bucket: str, folder: Path, tmp_path: Path) -> None:
    remote, back = f"s3:{bucket}/backup", tmp_path / "back"
    in_parts = "--s3-upload-cutoff=5Mi"
    rclone("copy", in_parts, str(folder), remote)
    rclone("check", "--download", str(folder), remote)
    assert "There was nothing to transfer" in rclone("sync", "--verbose", str(folder), remote)

    (folder / "notes.txt").write_bytes(b"longer notes")
    (folder / "in/film.mp4").unlink()
    rclone("sync", str(folder), remote)
    rclone("copyto", f"{remote}/notes.txt", f"{remote}/copied.txt")
    rclone("copy", remote, str(back))
    assert _files(back) == _files(folder) | {"copied.txt": b"longer notes"}
    rclone("purge", remote)
    assert rclone("lsf", f"s3:{bucket}") == ""


def test_the_default_acl_of_rclone_is_refused_where_acls_are_disabled(
    rclone: Run, bucket: str, folder: Path, stored: Callable[[], list[str]]
) -> None:
    with pytest.raises(AssertionError, match="AccessControlListNotSupported: The bucket does not allow ACLs"):
        rclone("copy", str(folder), f"s3:{bucket}", acl="")
    assert stored() == []


def test_boto3_uploads_downloads_copies_and_presigns(embedded_s3: EmbeddedS3, bucket: str, tmp_path: Path) -> None:
    s3: Any = boto3.client(
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
    # boto3 validates the checksum by default: other bytes would raise an error here.
    assert s3.get_object(Bucket=bucket, Key="whole.mp4")["Body"].read() == film.read_bytes()
    s3.copy({"Bucket": bucket, "Key": "film.mp4"}, bucket, "copy.mp4")
    post = s3.generate_presigned_post(bucket, "posted", Conditions=[["content-length-range", 1, 5]])
    for content, status in ((b"12345", 204), (b"123456", 400)):
        answer = httpx.post(post["url"], data=post["fields"], files={"file": ("a", content)})
        assert answer.status_code == status
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["copy.mp4", "film.mp4", "posted", "whole.mp4"]


def _run(name: str, *arguments: str, environment: dict[str, str]) -> str:
    """Run a program, which must succeed, and return its output and messages."""
    finished = subprocess.run(
        [program(name), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if name == "rclone" else subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, f"{finished.stdout}{finished.stderr or ''}"
    return finished.stdout


def _files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file under a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
