"""The response to an invalid request: where and what, in one form."""

from pathlib import Path
from typing import Any

import pytest

from broker.api.schemas import UploadBody
from tests.support.serving import bearing, served, token

SHA256 = "should be the base64 form of a SHA-256 digest, 44 characters"
CURSOR = "should be the next_cursor of an earlier page"


@pytest.mark.parametrize(
    ("method", "path", "asked", "at", "problem"),
    [
        ("POST", "/upload", {"content_type": "video/mp4", "checksum_sha256": "no"}, "body.checksum_sha256", SHA256),
        ("POST", "/upload", {}, "body.content_type", "Field required"),
        ("GET", "/?cursor=!!!", None, "query.cursor", CURSOR),
        ("GET", "/?cursor=AAAA", None, "query.cursor", CURSOR),
        ("GET", "/?limit=0", None, "query.limit", "Input should be greater than or equal to 1"),
    ],
)
async def test_an_invalid_field_is_named(
    tmp_path: Path, method: str, path: str, asked: Any, at: str, problem: str
) -> None:
    async with served(tmp_path) as client:
        answer = await client.request(method, path, json=asked, headers=bearing(token()))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"at": at, "problem": problem}]
    assert answer.json()["detail"] == f"The request is not valid: {at}: {problem}."


async def test_an_optional_field_may_be_null(tmp_path: Path) -> None:
    optional = UploadBody.model_fields.keys() - {"content_type"}
    async with served(tmp_path) as client:
        bare, nulls = [
            await client.post(
                "/upload",
                json={"content_type": "video/mp4"} | beside,
                headers=bearing(token()) | {"Idempotency-Key": "one"},
            )
            for beside in ({}, dict.fromkeys(optional))
        ]
        listed = await client.get("/", headers=bearing(token()))
    assert [bare.status_code, nulls.status_code] == [201, 201]
    assert bare.json()["media_id"] == nulls.json()["media_id"]
    assert [one["metadata"] for one in listed.json()["media"]] == [{}]
