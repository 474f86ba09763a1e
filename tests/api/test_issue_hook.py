"""The issue hook of a standalone broker: what the application is asked, and what the client gets for each answer."""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from broker import metrics
from broker.egress.public_network import PublicNetwork
from broker.egress.signed_posts import SignedPosts
from broker.errors import SettingsInvalid
from broker.lifecycle.application.deciding import IssueRequest
from broker.lifecycle.application.issue_hook import MAX_ANSWER_BYTES, HookFailed, IssueHook
from broker.lifecycle.requests import UploadRequest
from tests.support.receiver import Receiver, receiving
from tests.support.serving import bearing, served, settings_of, token

SECONDS, WITHOUT_AN_ANSWER = 30, 2
"""The patience of the broker: longer than a loaded machine takes, and short where no answer comes."""
HEADERS = bearing(token("anna"))
UPLOAD = {"content_type": "video/mp4", "size": 1000, "metadata": {"chat": "7"}}
ACCEPTS: tuple[int, object] = (200, {})
AWAY = (503, "application-away")
REFUSED = (403, "upload-refused")


def secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


SECRET = secret()


@asynccontextmanager
async def asking(folder: Path, receiver: Receiver, **overrides: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a broker that asks this receiver about uploads."""
    known = {
        "issue_hook_url": receiver.url,
        "issue_hook_secrets": SECRET,
        "issue_hook_seconds": SECONDS,
        "issue_hook_loopback_http": True,
    }
    async with served(folder, **{**known, **overrides}) as client:
        yield client


async def media_of(client: httpx.AsyncClient, headers: dict[str, str] = HEADERS) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await client.get("/", headers=headers)).json()["media"]
    return listed


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("type", "").removeprefix("urn:s3-media:problem:")


async def test_the_question_is_signed_as_webhooks_are_and_names_the_caller_and_the_upload(tmp_path: Path) -> None:
    async with receiving(ACCEPTS) as receiver, asking(tmp_path, receiver) as client:
        assert (await client.post("/upload", json=UPLOAD, headers=HEADERS)).status_code == 201
    ((headers, body),) = receiver.requests
    assert Webhook(SECRET).verify(body, headers) == receiver.documents[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret()).verify(body, headers)
    question = receiver.documents[0]
    assert question.keys() == {"type", "timestamp", "data"}
    assert question["type"] == "upload.issue"
    assert abs(datetime.fromisoformat(question["timestamp"]).timestamp() - time.time()) < 60
    assert question["data"] == {
        "caller": "anna",
        "permissions": ["media:delete", "media:read", "media:upload"],
        "owner": "anna",
        "upload": {
            "content_type": "video/mp4",
            "size": 1000,
            "filename": None,
            "duration_seconds": None,
            "checksum_sha256": None,
            "resumable": None,
            "checksum_crc64nvme": None,
            "metadata": {"chat": "7"},
            "redirect_url": None,
        },
    }


@pytest.mark.parametrize("answer", [204, (200, {}), (201, {"owner": None, "later": "member"})])
async def test_an_accepted_upload_is_issued_as_it_was_asked_for(tmp_path: Path, answer: Any) -> None:
    async with receiving("nothing" if answer == 204 else answer) as receiver, asking(tmp_path, receiver) as client:
        issued = await client.post("/upload", json=UPLOAD, headers=HEADERS)
        assert issued.status_code == 201
        assert "upload_token" not in issued.json()
        (media,) = await media_of(client)
        assert media["metadata"] == {"chat": "7"}


async def test_the_application_sets_owner_and_metadata(tmp_path: Path) -> None:
    answer = (200, {"owner": "chat 7", "metadata": {"plan": "gold"}})
    async with receiving(answer) as receiver, asking(tmp_path, receiver) as client:
        issued = (await client.post("/upload", json=UPLOAD, headers=HEADERS)).json()
        assert await media_of(client) == []
        (media,) = await media_of(client, bearing(token("chat 7")))
        assert (media["media_id"], media["metadata"]) == (issued["media_id"], {"plan": "gold"})
        # The caller does not own it, so the upload token is what completes it.
        seen = await client.get(f"/{media['media_id']}", headers=bearing(issued["upload_token"]))
        assert kind(seen) == (409, "not-ready")


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ((403, {"detail": "Your plan allows 3 videos."}), "Your plan allows 3 videos."),
        ((400, {"detail": "Größe 🎬 <b>&amp;"}), "Größe 🎬 <b>&amp;"),
        ((402, {"detail": "  a\x00b\r\n\x1b[31mc\x7f\x85\u2028d  "}), "ab[31mcd"),
        ((409, {"detail": "x" * 501}), "x" * 500),
        ((422, {"detail": ""}), "The application refuses this upload."),
        ((451, {"detail": "\n", "type": "about:blank"}), "The application refuses this upload."),
    ],
)
async def test_a_refusal_reaches_the_client_word_for_word(
    tmp_path: Path, answer: tuple[int, object], detail: str
) -> None:
    async with receiving(answer) as receiver, asking(tmp_path, receiver) as client:
        refused = await client.post("/upload", json=UPLOAD, headers=HEADERS)
        assert kind(refused) == REFUSED
        assert refused.json()["detail"] == detail
        assert await media_of(client) == []
    assert len(receiver.requests) == 1


FAILURES: dict[str, tuple[list[Any], int]] = {
    "slow": (["hang"], 1),
    "a byte at a time": (["drip"], 1),
    "hangs up": (["hang_up"], 2),
    "not HTTP": (["babble"], 2),
    "500": ([500], 2),
    "503": ([503], 2),
    "302 to the metadata service": (["to_the_metadata_service"], 1),
    "307 to another address": (["to_itself"], 1),
    "ten gigabytes": (["flood"], 1),
    "a body that breaks off": (["break_off"], 1),
    "a refusal of the signature": ([(401, {"detail": "wrong signature"})], 1),
    "no such address": ([(404, {"detail": "Not Found"})], 1),
    "no such method": ([(405, {"detail": "Method Not Allowed"})], 1),
    "too many questions": ([(429, {"detail": "Slow down"})], 1),
    "a client error without a reason": ([403], 1),
    "a reason that is no text": ([(422, {"detail": [{"msg": "Field required"}]})], 1),
    "a page": ([200], 1),
    "a list": ([(200, [])], 1),
    "an owner that is no text": ([(200, {"owner": 7})], 1),
    "an owner that is not printable": ([(200, {"owner": "a\nb"})], 1),
    "an owner that is too long": ([(200, {"owner": "a" * 256})], 1),
    "nested metadata": ([(200, {"metadata": {"a": {"b": "c"}}})], 1),
    "metadata beyond 2 KB": ([(200, {"metadata": {"a": "b" * 2048}})], 1),
    "a link that is no boolean": ([(200, {"allow_link": "yes"})], 1),
}
ENDLESS = {"slow", "a byte at a time"}


@pytest.mark.parametrize("failure", FAILURES)
async def test_without_a_decision_nothing_is_issued(tmp_path: Path, failure: str) -> None:
    answers, attempts = FAILURES[failure]
    limits = {"quota_media_count": 1, "issue_hook_seconds": WITHOUT_AN_ANSWER if failure in ENDLESS else SECONDS}
    async with receiving(*answers) as receiver, asking(tmp_path, receiver, **limits) as client:
        with capture_logs() as logs:
            answer = await client.post("/upload", json=UPLOAD, headers=HEADERS)
        assert kind(answer) == AWAY
        assert answer.headers["Retry-After"] == "5"
        assert await media_of(client) == []
        assert len(receiver.requests) == attempts
        assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
        (line,) = [line for line in logs if line["log_level"] == "warning"]
        assert "wrong signature" not in str(line)
        # No quota is held: the one media that it allows can be issued.
        receiver.answers = [receiver.json(*ACCEPTS)]
        assert (await client.post("/upload", json=UPLOAD, headers=HEADERS)).status_code == 201


async def test_an_application_that_is_down_is_away(tmp_path: Path) -> None:
    async with receiving(ACCEPTS) as receiver:
        pass
    async with asking(tmp_path, receiver) as client:
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS)) == AWAY
        assert await media_of(client) == []


async def test_one_retry_bridges_a_failure(tmp_path: Path) -> None:
    async with receiving(500, ACCEPTS) as receiver, asking(tmp_path, receiver) as client:
        assert (await client.post("/upload", json=UPLOAD, headers=HEADERS)).status_code == 201
    assert len(receiver.requests) == 2


async def test_a_wrong_secret_is_refused_by_an_application_that_verifies(tmp_path: Path) -> None:
    wrong = secret()
    answer = (401, {"detail": "wrong signature"})
    async with receiving(answer) as receiver, asking(tmp_path, receiver, issue_hook_secrets=wrong) as client:
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS)) == AWAY
    ((headers, body),) = receiver.requests
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers)


async def test_during_a_rotation_both_secrets_verify(tmp_path: Path) -> None:
    following = secret()
    both = f"{following},{SECRET}"
    async with receiving(ACCEPTS) as receiver, asking(tmp_path, receiver, issue_hook_secrets=both) as client:
        await client.post("/upload", json=UPLOAD, headers=HEADERS)
    ((headers, body),) = receiver.requests
    for known in (following, SECRET):
        Webhook(known).verify(body, headers)


async def test_of_an_endless_answer_only_kilobytes_are_read(tmp_path: Path) -> None:
    async with receiving("flood") as receiver, asking(tmp_path, receiver, issue_hook_seconds=10) as client:
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS)) == AWAY
        # What the system's own buffers on both sides hold is sent, but not read.
        assert MAX_ANSWER_BYTES < receiver.sent_bytes < 16 * 1024**2


async def test_only_public_addresses_are_asked() -> None:
    question = IssueRequest(caller="anna", permissions=frozenset(), owner="anna", upload=UploadRequest("video/mp4"))
    async with receiving(ACCEPTS) as receiver:
        for host in ("127.0.0.1", "localhost", "169.254.169.254"):
            hook = IssueHook(f"http://{host}:{receiver.port}/", SignedPosts([SECRET], PublicNetwork()))
            with pytest.raises(HookFailed, match="not public"):
                await hook.ask(question)
            await hook.close()
    assert receiver.connections == 0


async def test_a_request_that_breaks_the_rules_is_not_asked_about(tmp_path: Path) -> None:
    async with receiving(ACCEPTS) as receiver, asking(tmp_path, receiver) as client:
        for body in ({"content_type": "text/html"}, UPLOAD | {"size": 10**10}, UPLOAD | {"duration_seconds": 1e6}):
            assert (await client.post("/upload", json=body, headers=HEADERS)).status_code == 422
        assert (await client.post("/upload", json=UPLOAD)).status_code == 401
        assert (await client.post("/upload", json=UPLOAD, headers=bearing(token(scope="")))).status_code == 403
    assert receiver.requests == []


@pytest.mark.parametrize("answer", [{}, {"owner": "chat 7"}, {"owner": "chat 7", "metadata": {"a": "b"}}])
async def test_a_repeated_request_is_not_asked_about_again(tmp_path: Path, answer: dict[str, Any]) -> None:
    keyed = HEADERS | {"Idempotency-Key": "k"}
    async with receiving((200, answer), (403, {"detail": "no more"})) as receiver, asking(tmp_path, receiver) as client:
        first = await client.post("/upload", json=UPLOAD, headers=keyed)
        again = await client.post("/upload", json=UPLOAD, headers=keyed)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json()["media_id"] == again.json()["media_id"]
        assert ("upload_token" in again.json()) is ("owner" in answer)
        other = await client.post("/upload", json=UPLOAD | {"size": 7}, headers=keyed)
        assert kind(other) == (422, "idempotency-key-reused")
        assert len(receiver.requests) == 1
        assert kind(await client.post("/upload", json=UPLOAD, headers=HEADERS | {"Idempotency-Key": "l"})) == REFUSED
        # The key belongs to its caller.
        berta = bearing(token("berta")) | {"Idempotency-Key": "k"}
        assert kind(await client.post("/upload", json=UPLOAD, headers=berta)) == REFUSED


async def test_questions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with receiving("hang") as receiver, asking(tmp_path, receiver, issue_hook_seconds=5) as client:
        asked = [asyncio.create_task(client.post("/upload", json=UPLOAD, headers=HEADERS)) for _ in range(100)]
        async with asyncio.timeout(20):
            while len(receiver.requests) < 100:
                await asyncio.sleep(0.01)
            assert (await client.get("/", headers=HEADERS)).status_code == 200
            assert {(await each).status_code for each in asked} == {503}


async def test_decisions_and_their_time_are_counted(tmp_path: Path) -> None:
    def count(outcome: str) -> float:
        return metrics.ISSUE_DECISIONS.labels(outcome)._value.get()  # type: ignore[no-any-return]

    outcomes = ("accepted", "refused", "unavailable")
    before = {outcome: count(outcome) for outcome in outcomes}
    async with receiving(ACCEPTS, (403, {"detail": "no"}), 404) as receiver, asking(tmp_path, receiver) as client:
        for _ in outcomes:
            await client.post("/upload", json=UPLOAD, headers=HEADERS)
    assert {outcome: count(outcome) - before[outcome] for outcome in outcomes} == dict.fromkeys(outcomes, 1)
    assert b'broker_hook_seconds_count{hook="issue"}' in metrics.exposition()


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"issue_hook_url": "http://app.example/hook"}, "BROKER_ISSUE_HOOK_URL: should be an https address"),
        ({"issue_hook_url": "http://127.0.0.1/hook"}, "BROKER_ISSUE_HOOK_URL: should be an https address"),
        ({"issue_hook_url": "https://anna:pw@app.example/"}, "BROKER_ISSUE_HOOK_URL: should be an https address"),
        ({"issue_hook_secrets": ""}, "BROKER_ISSUE_HOOK_SECRETS: should be set if BROKER_ISSUE_HOOK_URL is set"),
        ({"issue_hook_secrets": "whsec_c2hvcnQ="}, "BROKER_ISSUE_HOOK_SECRETS: should be whsec_ and 24 to 64"),
        ({"issue_hook_seconds": 0}, "BROKER_ISSUE_HOOK_SECONDS: Input should be greater than or equal to 0.1"),
        ({"issue_hook_seconds": 31}, "BROKER_ISSUE_HOOK_SECONDS: Input should be less than or equal to 30"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_the_start(
    tmp_path: Path, overrides: dict[str, Any], problem: str
) -> None:
    valid = {"issue_hook_url": "https://app.example/hook", "issue_hook_secrets": SECRET}
    assert SECRET in settings_of(tmp_path, **valid).secrets()
    with pytest.raises(SettingsInvalid) as refusal:
        settings_of(tmp_path, **valid | overrides)
    assert str(refusal.value).startswith(problem)
