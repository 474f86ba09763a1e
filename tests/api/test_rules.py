"""The rules of uploads as a client reads them: what they allow is issued, and what they do not is refused."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.domain.video_types import DEFAULT_TYPES
from tests.support.serving import bearing, served, token

GIB = 1024**3
LIMITS: dict[str, Any] = {
    "max_file_size": 6 * GIB,
    "max_video_duration_seconds": 60,
    "part_size": 8 * 1024**2,
    "allowed_types": "video/quicktime,application/mxf",
}


async def rules_of(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/rules")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def outcome(client: httpx.AsyncClient, **body: Any) -> str:
    """Return what becomes of a request: `issued`, or the type of its problem."""
    answer = await client.post("/upload", json=body)
    return "issued" if answer.status_code == 201 else answer.json()["type"].rpartition(":")[2]


async def test_the_rules_are_those_of_the_deployment(tmp_path: Path) -> None:
    async with served(tmp_path, **LIMITS) as client:
        client.headers.update(bearing(token()))
        assert await rules_of(client) == {
            "success": True,
            "types": [
                {
                    "content_type": "video/quicktime",
                    "other_names": ["video/mov", "video/x-quicktime"],
                    "extensions": ["mov", "qt"],
                },
                {"content_type": "application/mxf", "other_names": [], "extensions": []},
            ],
            "min_size": 1,
            "max_size": 6 * GIB,
            "max_form_size": 5 * GIB,
            "part_size": 8 * 1024**2,
            "max_parts": 10_000,
            "max_duration_seconds": 60,
            "max_metadata_size": 2048,
        }


async def test_what_the_rules_allow_is_issued_and_one_more_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, **LIMITS) as client:
        client.headers.update(bearing(token()))
        rules = await rules_of(client)
        movie = {"content_type": "video/quicktime", "size": rules["min_size"]}
        for allowed in rules["types"]:
            for name in (allowed["content_type"], *allowed["other_names"]):
                assert await outcome(client, content_type=name) == "issued"
        assert await outcome(client, content_type="video/mp4") == "type-not-allowed"

        form, most, seconds = rules["max_form_size"], rules["max_size"], rules["max_duration_seconds"]
        metadata = "x" * (rules["max_metadata_size"] - len('{"a": ""}'))
        for change, beyond, problem in (
            ({"size": rules["min_size"]}, {"size": rules["min_size"] - 1}, "size-not-allowed"),
            ({"size": form}, {"size": form + 1}, "resumable-required"),
            ({"size": most, "resumable": True}, {"size": most + 1, "resumable": True}, "size-not-allowed"),
            ({"duration_seconds": seconds}, {"duration_seconds": seconds + 1}, "duration-not-allowed"),
            ({"metadata": {"a": metadata}}, {"metadata": {"a": metadata + "x"}}, "metadata-too-large"),
        ):
            assert await outcome(client, **movie | change) == "issued"
            assert await outcome(client, **movie | beyond) == problem

        parts = (await client.post("/upload", json=movie | {"size": most, "resumable": True})).json()["parts"]
        assert parts["part_size"] == rules["part_size"]


async def test_all_video_types_are_allowed_by_default(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        client.headers.update(bearing(token()))
        rules = await rules_of(client)
    assert [allowed["content_type"] for allowed in rules["types"]] == list(DEFAULT_TYPES)
    assert rules["max_form_size"] == rules["max_size"] == 100_000_000


@pytest.mark.parametrize(("scope", "status"), [("media:upload", 200), ("media:read media:delete", 403)])
async def test_only_callers_who_may_upload_read_the_rules(tmp_path: Path, scope: str, status: int) -> None:
    async with served(tmp_path) as client:
        assert (await client.get("/rules", headers=bearing(token(scope=scope)))).status_code == status
        assert (await client.get("/rules")).status_code == 401
