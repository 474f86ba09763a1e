"""The response to an invalid request: where and what, in one form."""

from pathlib import Path
from typing import Any

import pytest

from broker.api.schemas import UploadBody
from tests.support.serving import bearing, served, token

SHA256 = "should be the base64 form of a SHA-256 digest, 44 characters"
STRAY = "A" * 42 + "B="
"""The base64 of 32 bytes with a stray bit in its last character, which S3 refuses."""
CURSOR = "should be the next_cursor of an earlier page"


@pytest.mark.parametrize(
    ("method", "path", "asked", "at", "problem"),
    [
        ("POST", "/upload", {"content_type": "video/mp4", "checksum_sha256": "no"}, "body.checksum_sha256", SHA256),
        ("POST", "/upload", {"content_type": "video/mp4", "checksum_sha256": STRAY}, "body.checksum_sha256", SHA256),
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


@pytest.mark.parametrize(
    "body",
    [
        {"content_type": "video/mp4", "metadata": dict.fromkeys(map(str, range(5000)), 7)},
        {"content_type": "video/mp4"} | dict.fromkeys(map(str, range(5000)), 7),
        {"content_type": "video/mp4", "x" * 60_000: 7},
        {"content_type": "video/mp4", "metadata": {"x" * 60_000: 7}},
    ],
    ids=["many values", "many fields", "a long field", "a long name"],
)
async def test_a_problem_is_small_however_much_of_a_body_is_invalid(tmp_path: Path, body: dict[str, Any]) -> None:
    async with served(tmp_path) as client:
        answer = await client.post("/upload", json=body, headers=bearing(token()))
    assert answer.status_code == 422
    assert len(answer.content) < 8000
    errors = answer.json()["errors"]
    assert 1 <= len(errors) <= 20
    if len(errors) == 20:
        assert answer.json()["detail"].endswith("; and 4980 more.")
