"""The issue hook without a server: what is posted, what each answer decides, and when it is posted again."""

import json
from datetime import UTC, datetime
from typing import Any

import httpcore
import pytest
from structlog.testing import capture_logs

from broker.egress.public_network import AddressRefused
from broker.egress.signed_posts import Received, SignedPosts
from broker.errors import ApplicationUnavailable
from broker.lifecycle.application.deciding import IssueAccepted, IssueRefused, IssueRequest
from broker.lifecycle.application.issue_hook import ABOUT_THE_CALL, HookFailed, IssueHook, decision_of
from broker.lifecycle.requests import UploadRequest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "https://app.example/hook"
UPLOAD = UploadRequest(content_type="video/mp4", size=7, filename="Ä.mp4", owner="bob", allow_link=True)
ASKED = IssueRequest(
    caller="ann", permissions=frozenset({"media:upload", "media:delegate"}), owner="bob", upload=UPLOAD
)


def whole(status: int, body: str = "") -> Received:
    return Received(status, body.encode(), is_whole=True)


class Posts(SignedPosts):
    """Posts that are answered as the test says: with each response or error in turn."""

    def __init__(self, *answers: Received | Exception) -> None:
        self.answers = list(answers)
        self.posted: list[tuple[str, str, str, datetime, int]] = []
        self.closed = False

    async def post(self, target: str, message_id: str, body: str, now: datetime, *, max_bytes: int) -> Received:
        self.posted.append((target, message_id, body, now, max_bytes))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


def hook(posts: Posts) -> IssueHook:
    return IssueHook(URL, posts, clock=lambda: NOW)


async def test_the_question_names_the_caller_and_the_upload_in_a_compact_document() -> None:
    posts = Posts(whole(200))
    asking = hook(posts)
    assert await asking(ASKED) == IssueAccepted()
    ((target, message_id, body, now, max_bytes),) = posts.posted
    assert (target, now, max_bytes) == (URL, NOW, 16 * 1024)
    assert message_id.startswith("msg_")
    assert len(message_id) == 36
    upload = UPLOAD._asdict() | {"metadata": {}}
    del upload["owner"], upload["allow_link"]
    data = {"caller": "ann", "permissions": ["media:delegate", "media:upload"], "owner": "bob", "upload": upload}
    document = {"type": "upload.issue", "timestamp": "2026-01-02T03:04:05+00:00", "data": data}
    assert body == json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    await asking.close()
    assert posts.closed


@pytest.mark.parametrize(
    ("status", "body", "decision"),
    [
        (200, "", IssueAccepted()),
        (299, " \r\n", IssueAccepted()),
        (200, "{}", IssueAccepted()),
        (200, '{"owner": "bob", "other": 1}', IssueAccepted(owner="bob")),
        (201, '{"metadata": {"a": "b"}, "allow_link": true}', IssueAccepted(metadata={"a": "b"}, allow_link=True)),
        (400, '{"detail": "no"}', IssueRefused("no")),
        (403, '{"detail": "no", "other": 1}', IssueRefused("no")),
        (499, '{"detail": ""}', IssueRefused("")),
    ],
)
def test_an_answer_decides(status: int, body: str, decision: IssueAccepted | IssueRefused) -> None:
    assert decision_of(whole(status, body)) == decision


NO_JSON = "it answered 200, but body is not valid"
NO_OWNER = "it answered 200, but owner should be 1 to 255 printable characters, without surrounding spaces"


@pytest.mark.parametrize(
    ("answer", "reason", "may_retry"),
    [
        (Received(200, b"{", is_whole=False), "its answer (200) is longer than 16384 bytes, or broke off", False),
        (whole(199), "it answered 199", False),
        (whole(300), "it answered 300", False),
        (whole(399), "it answered 399", False),
        (whole(500, '{"detail": "no"}'), "it answered 500", True),
        (whole(599), "it answered 599", True),
        (whole(200, "<html>"), NO_JSON, False),
        (whole(200, "[]"), NO_JSON, False),
        (Received(200, b"\xff", is_whole=True), NO_JSON, False),
        (whole(200, '{"owner": 7, "allow_link": 1}'), "it answered 200, but allow_link, owner is not valid", False),
        (whole(200, '{"metadata": {"a": 1, "b": 2}}'), "it answered 200, but metadata is not valid", False),
        (whole(200, '{"owner": " bob"}'), NO_OWNER, False),
        (whole(403), "it answered 403, but body is not valid", False),
        (whole(422, '{"detail": [1]}'), "it answered 422, but detail is not valid", False),
    ]
    + [(whole(status, '{"detail": "no"}'), f"it answered {status}", False) for status in sorted(ABOUT_THE_CALL)],
)
def test_another_answer_decides_nothing_and_is_named(answer: Received, reason: str, may_retry: bool) -> None:
    with pytest.raises(HookFailed) as failed:
        decision_of(answer)
    assert (str(failed.value), failed.value.may_retry) == (reason, may_retry)


def test_the_client_errors_that_decide_nothing_are_about_the_call() -> None:
    assert sorted(ABOUT_THE_CALL) == [401, 404, 405, 407, 408, 425, 429]


FAILED = httpcore.ReadError("cut")


@pytest.mark.parametrize(
    ("answers", "outcome", "attempts"),
    [
        ([whole(200)], IssueAccepted(), 1),
        ([whole(500), whole(200)], IssueAccepted(), 2),
        ([FAILED, whole(403, '{"detail": "no"}')], IssueRefused("no"), 2),
        ([httpcore.RemoteProtocolError("babble"), whole(200)], IssueAccepted(), 2),
        ([FAILED, FAILED], "ReadError: cut", 2),
        ([whole(503), whole(502)], "it answered 502", 2),
        ([whole(404)], "it answered 404", 1),
        ([httpcore.ConnectTimeout("slow")], "ConnectTimeout: slow", 1),
        ([AddressRefused("the address is not public")], "AddressRefused: the address is not public", 1),
        ([ValueError("x" * 300)], f"ValueError: {'x' * 188}", 1),
    ],
    ids=str,
)
async def test_a_question_is_repeated_once_if_that_may_help(answers: list[Any], outcome: Any, attempts: int) -> None:
    posts = Posts(*answers)
    if isinstance(outcome, str):
        with capture_logs() as logs, pytest.raises(ApplicationUnavailable):
            await hook(posts)(ASKED)
        assert logs == [{"event": "the issue hook gave no decision", "log_level": "warning", "reason": outcome}]
    else:
        assert await hook(posts)(ASKED) == outcome
    assert len(posts.posted) == attempts
    assert len(set(posts.posted)) == 1
