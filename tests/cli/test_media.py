"""`broker media`: the commands of an operator over a real database and bucket."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.databases import sqlite_url
from tests.support.processes import done
from tests.support.serving import SECRET, bearing, served, token


@pytest.fixture
def variables(embedded_s3: EmbeddedS3, bucket: str, tmp_path: Path) -> dict[str, str]:
    sqlite_url(tmp_path)
    return {
        "SECRET_KEY": SECRET,
        "CLOUD_STORAGE_PROVIDER": "s3",
        "AWS_S3_BUCKET_NAME": bucket,
        "AWS_S3_REGION": embedded_s3.region,
        "AWS_ACCESS_KEY_ID": embedded_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key,
        "BROKER_S3_ENDPOINT_URL": embedded_s3.endpoint_url,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_DATABASE_URL": f"sqlite:///{tmp_path}/broker.db",
    }


@pytest.fixture
def uploaded(variables: dict[str, str], embedded_s3: EmbeddedS3, bucket: str, tmp_path: Path) -> dict[str, str]:
    """Have a pending media, a ready one, and one that was rejected; return their ids by state."""

    async def upload() -> dict[str, str]:
        place = {
            "bucket_name": bucket,
            "region": embedded_s3.region,
            "access_key_id": embedded_s3.access_key,
            "secret_access_key": embedded_s3.secret_key,
            "s3_endpoint_url": embedded_s3.endpoint_url,
            "s3_path_style": True,
            "s3_timeout_seconds": 5,
        }
        ids = {}
        async with served(tmp_path, **place) as client:
            client.headers.update(bearing(token("anna")))
            for state in ("pending", "ready", "rejected"):
                body = {"content_type": "video/mp4", "filename": f":key: {state}\x1b[31m.mp4"}
                issued = (await client.post("/upload", json=body)).raise_for_status().json()
                ids[state], form = issued["media_id"], issued["upload"]
                if state == "rejected":
                    _store_something_else(variables, form["fields"]["key"])
                elif state == "ready":
                    httpx.post(form["url"], data=form["fields"], files={"file": b"video"}).raise_for_status()
                if state != "pending":
                    await client.post(f"/{ids[state]}/complete")
        return ids

    return asyncio.run(upload())


def _store_something_else(variables: dict[str, str], key: str) -> None:
    import boto3
    from botocore.config import Config

    s3 = boto3.client(
        "s3",
        endpoint_url=variables["BROKER_S3_ENDPOINT_URL"],
        region_name=variables["AWS_S3_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )
    s3.put_object(Bucket=variables["AWS_S3_BUCKET_NAME"], Key=key, Body=b"<p>", ContentType="text/html")


def broker(tmp_path: Path, variables: dict[str, str], *arguments: str, status: int = 0) -> str:
    ended = done("media", *arguments, cwd=tmp_path, **variables)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout if status == 0 else ended.stdout + ended.stderr


def test_an_operator_learns_why_a_media_was_rejected(
    tmp_path: Path, variables: dict[str, str], uploaded: dict[str, str]
) -> None:
    only_the_database = {"BROKER_DATABASE_URL": variables["BROKER_DATABASE_URL"]}
    lines = broker(tmp_path, only_the_database, "list").splitlines()
    assert [line.split()[0] for line in lines] == [uploaded[state] for state in ("rejected", "ready", "pending")]
    assert lines[0].endswith("the type is 'text/html', not 'video/mp4'")
    assert "\x1b" not in "".join(lines)
    shown = broker(tmp_path, only_the_database, "show", uploaded["rejected"])
    assert "filename:               :key: rejected\N{REPLACEMENT CHARACTER}[31m.mp4\n" in shown
    assert "differences:            the type is 'text/html', not 'video/mp4'" in shown
    assert f"staging_key:            staging/{uploaded['rejected'][-2:]}/{uploaded['rejected']}" in shown
    document = json.loads(broker(tmp_path, only_the_database, "show", "--json", uploaded["ready"]))
    assert (document["state"], document["owner"], document["size"]) == ("ready", "anna", 5)
    assert document["filename"] == ":key: ready\x1b[31m.mp4"


@pytest.mark.parametrize(
    ("options", "states"),
    [
        (["--state", "ready"], ["ready"]),
        (["--owner", "anna", "--limit", "2"], ["rejected", "ready"]),
        (["--owner", "ben"], []),
        (["--before", "ready"], ["pending"]),
    ],
    ids=str,
)
def test_a_list_is_narrowed(
    options: list[str], states: list[str], tmp_path: Path, variables: dict[str, str], uploaded: dict[str, str]
) -> None:
    if "--before" in options:
        options = ["--before", uploaded["ready"]]
    listed: Any = json.loads(broker(tmp_path, variables, "list", "--json", *options))
    assert [media["id"] for media in listed["media"]] == [uploaded[state] for state in states]


def test_a_media_is_deleted_with_its_objects(
    tmp_path: Path, variables: dict[str, str], uploaded: dict[str, str], s3_client: Any, bucket: str
) -> None:
    absent = str(uuid4())
    told = broker(tmp_path, variables, "delete", "--yes", uploaded["ready"], absent, status=1)
    assert f"{uploaded['ready']}  deleted" in told
    assert f"{absent}  there is no such media" in told
    assert s3_client.list_objects_v2(Bucket=bucket, Prefix="media/").get("Contents", []) == []
    assert json.loads(broker(tmp_path, variables, "show", "--json", uploaded["ready"]))["state"] == "deleting"
    assert "should be one of pending" in broker(tmp_path, variables, "list", "--state", "deleting", status=2)


def test_a_deletion_prints_json_alone_if_s3_is_away(
    tmp_path: Path, variables: dict[str, str], uploaded: dict[str, str]
) -> None:
    away = variables | {"BROKER_S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    deleted = done("media", "delete", "--yes", "--json", uploaded["ready"], cwd=tmp_path, **away)
    assert json.loads(deleted.stdout) == {"deleted": [uploaded["ready"]], "absent": []}
    assert "s3 failed" in deleted.stderr


def test_a_deletion_is_confirmed_first(tmp_path: Path, variables: dict[str, str], uploaded: dict[str, str]) -> None:
    assert "Delete 1 media and their objects? [y/N]" in broker(
        tmp_path, variables, "delete", uploaded["ready"], status=1
    )
    assert json.loads(broker(tmp_path, variables, "show", "--json", uploaded["ready"]))["state"] == "ready"


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (["show", str(uuid4())], "There is no such media", 1),
        (["show", "no-id"], "should be a valid UUID", 2),
        (["delete", "--yes", "no-id"], "should be a valid UUID", 2),
    ],
)
def test_an_error_is_printed_in_words(
    arguments: list[str], words: str, status: int, tmp_path: Path, variables: dict[str, str]
) -> None:
    assert words in broker(tmp_path, variables, *arguments, status=status)
