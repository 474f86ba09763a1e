"""Resumable uploads in front of each S3 server: what is composed, and what each part's policy refuses."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker import wiring
from broker.app import PREFIX
from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from tests.acceptance.client import Client
from tests.acceptance.forms import Form, multipart, replaced
from tests.acceptance.servers import S3
from tests.acceptance.serving import served_broker

PART = 5 * 1024**2
FILE = os.urandom(PART) + os.urandom(1000)
OTHER = FILE[PART:][::-1]
ASKED = {"size": len(FILE), "resumable": True}
StartBroker = Callable[..., Client]


def piece(number: int) -> bytes:
    return FILE[(number - 1) * PART : number * PART]


def form_of(issued: dict[str, Any], number: int, content: bytes) -> Form:
    """Return the form of one part, as a client sends it."""
    parts = issued["parts"]
    own = next(form["fields"] for form in parts["forms"] if form["number"] == number)
    return [*(parts["fields"] | own).items(), ("file", content)]


def send(client: Client, issued: dict[str, Any], form: Form) -> httpx.Response:
    content_type, body = multipart(form)
    return client.s3.http.post(issued["parts"]["url"], headers={"Content-Type": content_type}, content=body)


def uploaded(client: Client) -> dict[str, Any]:
    issued = client.issue(**ASKED)
    for number in (2, 1):
        assert send(client, issued, form_of(issued, number, piece(number))).status_code == 201
    return issued


def staged(client: Client, issued: dict[str, Any]) -> set[str]:
    return set(client.s3.keys(f"staging/{issued['media_id'][-2:]}/{issued['media_id']}/"))


@pytest.fixture
def small_parts(start_broker: StartBroker) -> Client:
    """Return a user of a broker whose parts have S3's smallest size."""
    return start_broker(part_size=PART)


def test_a_file_in_parts_is_composed_and_played(small_parts: Client) -> None:
    issued = uploaded(small_parts)
    completed = small_parts.complete(issued)
    assert completed.status_code == 200, completed.text
    assert completed.json()["size"] == len(FILE)
    assert small_parts.s3.http.get(completed.json()["signed_url"]).content == FILE
    assert small_parts.delete(issued).status_code == 200
    assert small_parts.objects(issued) == set()
    listing = small_parts.s3.client.list_multipart_uploads(Bucket=small_parts.s3.bucket, Prefix="media/")
    assert [entry for entry in listing.get("Uploads", ()) if issued["media_id"] in entry["Key"]] == []


def test_a_client_that_comes_back_gets_the_forms_of_the_missing_parts(small_parts: Client) -> None:
    issued = small_parts.issue(**ASKED)
    send(small_parts, issued, form_of(issued, 2, piece(2)))
    assert small_parts.complete(issued).json()["missing"] == [1]
    page = small_parts.http.get(issued["parts_url"], headers=small_parts._headers).json()
    assert (page["parts"]["arrived"], [form["number"] for form in page["parts"]["forms"]]) == ([2], [1])
    assert send(small_parts, page, form_of(page, 1, piece(1))).status_code == 201
    assert small_parts.complete(issued).status_code == 200


def _altered(form: Form) -> Form:
    policy = dict(form)["policy"]
    assert isinstance(policy, str)
    return replaced(form, "policy", policy[:-8] + ("A" if policy[-8] != "A" else "B") + policy[-7:])


def _of_another_number(form: Form) -> Form:
    key = dict(form)["key"]
    assert isinstance(key, str)
    return replaced(form, "key", key.removesuffix("00002") + "00001")


REFUSED: dict[str, tuple[bytes, Callable[[Form], Form]]] = {
    "larger": (piece(2) + b"x", lambda form: form),
    "smaller": (piece(2)[:-1], lambda form: form),
    "empty": (b"", lambda form: form),
    "of another type": (piece(2), lambda form: replaced(form, "Content-Type", "text/html")),
    "of another number": (piece(2), _of_another_number),
    "with an altered policy": (piece(2), _altered),
    "with a signature of zeros": (piece(2), lambda form: replaced(form, "x-amz-signature", "0" * 64)),
}


@pytest.mark.parametrize(("content", "change"), REFUSED.values(), ids=REFUSED.keys())
def test_s3_itself_refuses_a_part(small_parts: Client, content: bytes, change: Callable[[Form], Form]) -> None:
    issued = small_parts.issue(**ASKED)
    answer = send(small_parts, issued, change(form_of(issued, 2, content)))
    assert answer.status_code in {400, 403}, answer.text
    assert staged(small_parts, issued) == set()
    assert send(small_parts, issued, form_of(issued, 2, piece(2))).status_code == 201


def test_s3_itself_refuses_a_part_after_its_policy(s3: S3, tmp_path: Path) -> None:
    def two_hours_ago() -> datetime:
        return datetime.now(UTC) - timedelta(hours=2)

    with served_broker(s3, tmp_path, clock=two_hours_ago, part_size=PART) as http:
        client = Client(http, s3)
        issued = client.issue(**ASKED)
        answer = send(client, issued, form_of(issued, 2, piece(2)))
        assert answer.status_code == 403, answer.text
        assert staged(client, issued) == set()


def test_a_part_that_is_overwritten_between_list_and_copy_is_not_composed(
    monkeypatch: pytest.MonkeyPatch, start_broker: StartBroker
) -> None:
    overwrites: list[Callable[[], httpx.Response]] = []

    class OvertakenBucket(Bucket):
        async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
            if operation == "upload_part_copy" and overwrites and options["query"]["partNumber"] == "2":
                await asyncio.to_thread(overwrites.pop())
            return await super()._call(operation, method, key, **options)

    monkeypatch.setattr(wiring, "Bucket", OvertakenBucket)
    client = start_broker(part_size=PART)
    issued = uploaded(client)
    overwrites.append(lambda: send(client, issued, form_of(issued, 2, OTHER)))
    completed = client.complete(issued)
    assert completed.status_code == 200, completed.text
    assert overwrites == []
    # The list was judged again: the object is what that list said.
    assert client.s3.http.get(completed.json()["signed_url"]).content == piece(1) + OTHER


def test_parts_leave_no_versions_in_a_versioned_bucket(versioned_s3: S3, tmp_path: Path) -> None:
    with served_broker(versioned_s3, tmp_path, part_size=PART) as http:
        client = Client(http, versioned_s3)
        issued = uploaded(client)
        assert send(client, issued, form_of(issued, 2, OTHER)).status_code == 201
        assert client.complete(issued).status_code == 200
        assert client.delete(issued).status_code == 200
        assert client.versions(issued) == []
        assert http.get(f"{PREFIX}/{issued['media_id']}/parts", headers=client._headers).status_code == 404
