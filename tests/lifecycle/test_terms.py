"""The terms of an upload: whose it is, with which metadata, under which key, and whether its token gets a link."""

import pytest

from broker.domain.media import Media
from broker.lifecycle.application.agreement import agree
from broker.lifecycle.application.deciding import Deciding, IssueAccepted, IssueRequest
from broker.lifecycle.requests import Terms, UploadRequest
from broker.store import Store
from tests.support.samples import pending

PERMISSIONS = frozenset({"media:upload", "media:delegate"})
OWN = UploadRequest(content_type="video/mp4", metadata={"lesson": "7"})
FOR_BOB = OWN._replace(owner="bob")
METADATA = {"lesson": "7"}
EARLIER = pending("bob")


class Known(Store):
    """A store that knows `earlier`, and notes what it is asked for."""

    def __init__(self, earlier: Media | None = None) -> None:
        self.earlier = earlier
        self.asked: list[tuple[str, str, str]] = []

    async def find_issued(self, caller: str, *, own_key: str, issuers_key: str) -> Media | None:
        self.asked.append((caller, own_key, issuers_key))
        return self.earlier


async def terms(
    request: UploadRequest,
    decision: IssueAccepted | None = None,
    key: str | None = "once",
    earlier: Media | None = None,
) -> tuple[Media | None, Terms, list[IssueRequest], Known]:
    """Return the outcome of an agreement, the questions to the application, and the store."""
    questions: list[IssueRequest] = []

    async def decide(question: IssueRequest) -> IssueAccepted | None:
        questions.append(question)
        return decision

    store = Known(earlier)
    deciding = Deciding(decide, seconds=5) if decision is not None else None
    found, agreed = await agree(store, deciding, request, "anna", PERMISSIONS, key)
    return found, agreed, questions, store


ACCEPTED = IssueAccepted()


@pytest.mark.parametrize(
    ("request_", "decision", "expected"),
    [
        (FOR_BOB, None, Terms("bob", METADATA, "anna\nonce", issued_by="anna", allow_link=False)),
        (
            FOR_BOB._replace(allow_link=True, metadata=None),
            None,
            Terms("bob", {}, "anna\nonce", issued_by="anna", allow_link=True),
        ),
        (OWN._replace(owner="anna"), None, Terms("anna", METADATA, "anna\nonce", issued_by="anna", allow_link=False)),
        (OWN, ACCEPTED, Terms("anna", METADATA, "once")),
        (OWN, IssueAccepted(owner="anna"), Terms("anna", METADATA, "once")),
        (OWN, IssueAccepted(metadata={}), Terms("anna", {}, "once")),
        (OWN, IssueAccepted(metadata={"plan": "gold"}), Terms("anna", {"plan": "gold"}, "once")),
        (
            OWN,
            IssueAccepted(owner="eve", allow_link=True),
            Terms("eve", METADATA, "anna\nonce", issued_by="anna", allow_link=True),
        ),
        (FOR_BOB, ACCEPTED, Terms("bob", METADATA, "anna\nonce", issued_by="anna", allow_link=False)),
        (
            FOR_BOB._replace(allow_link=True),
            IssueAccepted(owner="eve"),
            Terms("eve", METADATA, "anna\nonce", issued_by="anna", allow_link=True),
        ),
    ],
)
async def test_the_caller_and_the_application_agree_on_these_terms(
    request_: UploadRequest, decision: IssueAccepted | None, expected: Terms
) -> None:
    found, agreed, questions, store = await terms(request_, decision)
    assert (found, agreed) == (None, expected)
    assert store.asked == [("anna", "once", "anna\nonce")]
    question = IssueRequest(caller="anna", permissions=PERMISSIONS, owner=request_.owner or "anna", upload=request_)
    assert questions == ([] if decision is None else [question])


async def test_without_a_key_nothing_earlier_is_looked_for() -> None:
    found, agreed, _, store = await terms(FOR_BOB, key=None)
    assert (found, agreed.idempotency_key, store.asked) == (None, None, [])


async def test_the_application_is_not_asked_about_an_earlier_media() -> None:
    found, agreed, questions, _ = await terms(FOR_BOB, ACCEPTED, earlier=EARLIER)
    assert (found, agreed.owner, questions) == (EARLIER, "bob", [])
