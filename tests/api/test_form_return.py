"""The return of a browser from a plain form's upload, to the page that the app named."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.serving import bearing, served, token


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["without a key", "with a key"])
async def test_the_parameters_of_the_broker_replace_forged_ones(tmp_path: Path, key: dict[str, str]) -> None:
    forged = "https://app.example/done?media_id=forged&album=7&status=ready&status=ready&empty=#there"
    async with served(tmp_path, redirect_origins="https://app.example") as client:
        body = {"content_type": "video/mp4", "redirect_url": forged}
        issued = (await client.post("/upload", json=body, headers=bearing(token()) | key)).json()
        answer = await client.get(issued["upload"]["fields"]["success_action_redirect"])
    target = urlsplit(answer.headers["location"])
    assert (answer.status_code, target.netloc, target.path, target.fragment) == (303, "app.example", "/done", "there")
    assert parse_qs(target.query, keep_blank_values=True) == {
        "album": ["7"],
        "empty": [""],
        "media_id": [issued["media_id"]],
        "status": ["pending"],
    }
