"""The application's decision on an upload: what it may answer, and what becomes of anything else."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.errors import ApplicationUnavailable, UploadRefused
from broker.lifecycle.application.cancellation import HandlerCancelled
from broker.lifecycle.application.deciding import (
    MAX_REASON_LENGTH,
    NO_REASON,
    Deciding,
    IssueAccepted,
    IssueRefused,
    IssueRequest,
)
from broker.lifecycle.requests import UploadRequest

pytestmark = pytest.mark.timeout(20)

REQUEST = IssueRequest(
    caller="anna", permissions=frozenset(), owner="anna", upload=UploadRequest(content_type="video/mp4")
)
ACCEPTED = IssueAccepted(owner="bob", metadata={"plan": "gold"}, allow_link=True)


def answering(answer: Any) -> Callable[[IssueRequest], Awaitable[Any]]:
    async def handler(request: IssueRequest) -> Any:
        assert request is REQUEST
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return handler


def counted() -> Counter[str]:
    """Return how many decisions the metrics count by outcome, and how many calls of the hook they time."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    counts = {
        each.labels["outcome"]: int(each.value) for each in samples if each.name == "broker_issue_decisions_total"
    }
    timed = REGISTRY.get_sample_value("broker_hook_seconds_count", {"hook": "issue"})
    return Counter(counts | {"timed": int(timed or 0)})


@pytest.mark.parametrize(("answer", "accepted"), [(None, IssueAccepted()), (ACCEPTED, ACCEPTED)])
async def test_an_upload_is_accepted_as_the_application_says(answer: Any, accepted: IssueAccepted) -> None:
    before = counted()
    assert await Deciding(answering(answer), seconds=5).decide(REQUEST) == accepted
    assert counted() - before == {"accepted": 1, "timed": 1}


@pytest.mark.parametrize(
    ("answer", "error", "message", "outcome"),
    [
        (IssueRefused("no\x00t \x1b[31mtoday\n"), UploadRefused, r"not \[31mtoday", "refused"),
        (ApplicationUnavailable(), ApplicationUnavailable, None, "unavailable"),
        (ZeroDivisionError("a defect"), ZeroDivisionError, "a defect", "failed"),
        (TimeoutError("its own"), TimeoutError, "its own", "failed"),
        (asyncio.CancelledError(), HandlerCancelled, "it awaited a task that was cancelled", "failed"),
        ("yes", TypeError, "on_issue should return IssueAccepted, IssueRefused or None, not str", "failed"),
        (True, TypeError, "not bool$", "failed"),
    ],
)
async def test_an_upload_is_not_issued_without_acceptance(
    answer: Any, error: type[Exception], message: str | None, outcome: str
) -> None:
    before = counted()
    with pytest.raises(error, match=message):
        await Deciding(answering(answer), seconds=5).decide(REQUEST)
    assert counted() - before == {outcome: 1, "timed": 1}


async def test_an_application_that_is_silent_is_unavailable() -> None:
    async def silent(request: IssueRequest) -> None:
        await asyncio.Event().wait()

    before = counted()
    with capture_logs() as logs, pytest.raises(ApplicationUnavailable):
        await Deciding(silent, seconds=0.01).decide(REQUEST)
    assert counted() - before == {"unavailable": 1, "timed": 1}
    assert logs == [
        {"event": "the application did not decide in time", "log_level": "warning", "seconds": 0.01},
    ]


async def test_the_end_of_a_request_cancels_the_function_of_the_application() -> None:
    is_called = asyncio.Event()

    async def silent(request: IssueRequest) -> None:
        is_called.set()
        await asyncio.Event().wait()

    deciding = asyncio.create_task(Deciding(silent, seconds=600).decide(REQUEST))
    await is_called.wait()
    deciding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deciding


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("The plan is used up.", "The plan is used up."),
        ("", NO_REASON),
        (" \n\t", NO_REASON),
        ("x" * (MAX_REASON_LENGTH + 1), "x" * MAX_REASON_LENGTH),
        (" a\nb\u2028 ", "ab"),
    ],
    ids=["plain", "empty", "spaces", "long", "control characters"],
)
def test_a_reason_is_printed_without_control_characters(reason: str, detail: str) -> None:
    assert IssueRefused(reason).detail == detail
    assert IssueRefused().detail == NO_REASON


OWNER = "^owner should be 1 to 255 printable characters, without surrounding spaces$"
METADATA = "^metadata should map texts to texts, without NUL characters$"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"owner": ""}, OWNER),
        ({"owner": " bob"}, OWNER),
        ({"owner": 7}, OWNER),
        ({"metadata": {"a": 7}}, METADATA),
        ({"metadata": {7: "a"}}, METADATA),
        ({"metadata": {"a": "\x00"}}, METADATA),
        ({"metadata": {"\x00": "a"}}, METADATA),
        ({"metadata": {"a": "x" * 2048}}, "2048"),
    ],
)
def test_an_owner_or_metadata_that_no_client_may_send_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IssueAccepted(**fields)


def test_what_clients_may_send_is_accepted() -> None:
    assert (IssueAccepted(owner="a" * 255).owner, IssueAccepted(metadata={"a": "x" * 2000}).allow_link) == (
        "a" * 255,
        False,
    )
