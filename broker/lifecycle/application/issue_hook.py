"""The issue hook of a standalone broker: a signed POST that asks the application, and the reading of its answer.

| Answer of the application | Decision |
| --- | --- |
| 2xx without a body, or with a JSON object: `owner`, `metadata`, `allow_link`, each optional | accepted |
| 4xx with a JSON object whose `detail` is a text | refused, with this reason |
| 401, 404, 405, 407, 408, 425, 429: they are about the hook's address, signature or rate, not about the upload | none |
| anything else: no answer, 5xx, a redirect, another body | none |

Without a decision nothing is issued, and the client gets 503.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpcore
import structlog
from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr, ValidationError

from broker.clock import Clock, utc_now
from broker.egress.public_network import AddressRefused
from broker.egress.signed_posts import Received, SignedPosts
from broker.errors import ApplicationUnavailable
from broker.lifecycle.application.deciding import IssueAccepted, IssueRefused, IssueRequest

log = structlog.get_logger()

TYPE = "upload.issue"
MAX_ANSWER_BYTES = 16 * 1024
ABOUT_THE_CALL = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""The client errors that say something about the call of the hook, not about the upload."""


class HookFailed(Exception):
    """The application gave no decision. `may_retry` says whether a second attempt may help."""

    def __init__(self, reason: str, *, may_retry: bool = False) -> None:
        super().__init__(reason)
        self.may_retry = may_retry


class _Accepted(BaseModel):
    model_config = ConfigDict(extra="ignore")

    owner: StrictStr | None = None
    metadata: dict[StrictStr, StrictStr] | None = None
    allow_link: StrictBool = False


class _Refused(BaseModel):
    model_config = ConfigDict(extra="ignore")

    detail: StrictStr


class IssueHook:
    """Ask the application at `url`; the interface of an IssueHandler."""

    def __init__(self, url: str, posts: SignedPosts, *, clock: Clock = utc_now) -> None:
        self._url = url
        self._posts = posts
        self._clock = clock

    async def __call__(self, request: IssueRequest) -> IssueAccepted | IssueRefused:
        """Return the decision, after a second attempt if the first one failed. Raises ApplicationUnavailable."""
        try:
            return await self.ask(request)
        except HookFailed as error:
            log.warning("the issue hook gave no decision", reason=str(error))
            raise ApplicationUnavailable from None

    async def ask(self, request: IssueRequest) -> IssueAccepted | IssueRefused:
        """Return the decision. Raises HookFailed. A second attempt has the same id, so it can be recognized."""
        message_id = f"msg_{uuid4().hex}"
        body = self._body(request)
        try:
            return decision_of(await self._post(message_id, body))
        except HookFailed as error:
            if not error.may_retry:
                raise
        return decision_of(await self._post(message_id, body))

    async def _post(self, message_id: str, body: str) -> Received:
        try:
            return await self._posts.post(self._url, message_id, body, self._clock(), max_bytes=MAX_ANSWER_BYTES)
        except Exception as error:  # a foreign server may cause any error in the client
            may_retry = isinstance(error, httpcore.NetworkError | httpcore.ProtocolError)
            may_retry = may_retry and not isinstance(error, AddressRefused)
            raise HookFailed(f"{type(error).__name__}: {error}"[:200], may_retry=may_retry) from None

    def _body(self, request: IssueRequest) -> str:
        upload = request.upload._replace(metadata=request.upload.metadata or {})._asdict()
        del upload["owner"], upload["allow_link"]  # `owner` is a member of its own, `allow_link` is the broker's own
        data = {
            "caller": request.caller,
            "permissions": sorted(request.permissions),
            "owner": request.owner,
            "upload": upload,
        }
        document = {"type": TYPE, "timestamp": self._clock().isoformat(), "data": data}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    async def close(self) -> None:
        """Close all connections."""
        await self._posts.close()


def decision_of(received: Received) -> IssueAccepted | IssueRefused:
    """Return the decision in the application's answer. Raises HookFailed if there is none."""
    status = received.status
    if not received.is_whole:
        raise HookFailed(f"its answer ({status}) is longer than {MAX_ANSWER_BYTES} bytes, or broke off")
    if 200 <= status < 300:
        return _parsed(received, _accepted) if received.body.strip() else IssueAccepted()
    if 400 <= status < 500 and status not in ABOUT_THE_CALL:
        return _parsed(received, _refused)
    raise HookFailed(f"it answered {status}", may_retry=status >= 500)


def _parsed(received: Received, parse: Callable[[bytes], IssueAccepted | IssueRefused]) -> IssueAccepted | IssueRefused:
    try:
        return parse(received.body)
    except ValidationError as error:
        members = ", ".join(sorted({str((*each["loc"], "body")[0]) for each in error.errors(include_input=False)}))
        raise HookFailed(f"it answered {received.status}, but {members} is not valid") from None
    except ValueError as error:
        raise HookFailed(f"it answered {received.status}, but {error}") from None


def _accepted(body: bytes) -> IssueAccepted:
    answer: Any = _Accepted.model_validate_json(body)
    return IssueAccepted(owner=answer.owner, metadata=answer.metadata, allow_link=answer.allow_link)


def _refused(body: bytes) -> IssueRefused:
    return IssueRefused(_Refused.model_validate_json(body).detail)
