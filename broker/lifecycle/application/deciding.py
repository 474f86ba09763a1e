"""The application's decision on an upload: the question, the possible answers, and the time limit."""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from broker import metrics
from broker.domain.access.owners import is_owner
from broker.domain.rules import Rules
from broker.errors import ApplicationUnavailable, MetadataTooLarge, UploadRefused
from broker.lifecycle.application.cancellation import only_own_cancellation
from broker.lifecycle.requests import UploadRequest

log = structlog.get_logger()

MAX_REASON_LENGTH = 500
NO_REASON = "The application refuses this upload."
_STRIPPED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""The Unicode categories of characters that a reason must not carry: controls, lone surrogates, line separators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRequest:
    """The question to the application: may this caller issue this upload?

    The upload already satisfies the broker's own rules; its quota is checked after the decision.
    """

    caller: str
    """The owner that the token names."""
    permissions: frozenset[str]
    """The permissions of the token, such as `media:upload`."""
    owner: str
    """The owner of the media: the caller, or the user on whose behalf it asks."""
    upload: UploadRequest
    """The requested upload: type, size, filename, metadata and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueAccepted:
    """Accept an upload, and optionally replace its owner and its metadata.

    If the owner is not the caller, the answer carries an upload token; with `allow_link` that token also gets a link
    once the media is ready. Raises ValueError for an owner or metadata that the broker would not accept from a client.
    """

    owner: str | None = None
    metadata: Mapping[str, str] | None = None
    allow_link: bool = False

    def __post_init__(self) -> None:
        if self.owner is not None and not is_owner(self.owner):
            raise ValueError("owner should be 1 to 255 printable characters, without surrounding spaces")
        for name, value in (self.metadata or {}).items():
            if not isinstance(name, str) or not isinstance(value, str) or "\x00" in name + value:
                raise ValueError("metadata should map texts to texts, without NUL characters")
        try:
            Rules().check_metadata(dict(self.metadata or {}))
        except MetadataTooLarge as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class IssueRefused:
    """Refuse an upload; the client reads the reason word for word, in a problem with status 403."""

    reason: str = NO_REASON

    @property
    def detail(self) -> str:
        """Return the reason without control characters, cut to MAX_REASON_LENGTH."""
        printed = "".join(char for char in self.reason if unicodedata.category(char) not in _STRIPPED)
        return printed.strip()[:MAX_REASON_LENGTH] or NO_REASON


IssueHandler = Callable[[IssueRequest], Awaitable[IssueAccepted | IssueRefused | None]]
"""The application's function. None accepts an upload as it was asked for."""
ACCEPTED = IssueAccepted()


class Deciding:
    """Ask the application about each new upload, and wait at most `seconds` for its decision."""

    def __init__(self, handler: IssueHandler, *, seconds: float) -> None:
        self._handler = handler
        self._seconds = seconds

    async def decide(self, request: IssueRequest) -> IssueAccepted:
        """Return how the upload is accepted. Raises UploadRefused, ApplicationUnavailable, and what the handler does.

        Raises TypeError if the handler returns anything else than an IssueAccepted, an IssueRefused or None.
        """
        outcome = "failed"
        try:
            with metrics.HOOK_SECONDS.labels("issue").time():
                decision = await self._decision(request)
            if isinstance(decision, IssueRefused):
                outcome = "refused"
                raise UploadRefused(reason=decision.detail)
            outcome = "accepted"
            return decision
        except ApplicationUnavailable:
            outcome = "unavailable"
            raise
        finally:
            metrics.ISSUE_DECISIONS.labels(outcome).inc()

    async def _decision(self, request: IssueRequest) -> IssueAccepted | IssueRefused:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                with only_own_cancellation():
                    decision = await self._handler(request)
        except TimeoutError:
            if not limit.expired():
                raise
            log.warning("the application did not decide in time", seconds=self._seconds)
            raise ApplicationUnavailable from None
        if decision is None:
            return ACCEPTED
        if not isinstance(decision, IssueAccepted | IssueRefused):
            kind = type(decision).__name__
            raise TypeError(f"on_issue should return IssueAccepted, IssueRefused or None, not {kind}")
        return decision
