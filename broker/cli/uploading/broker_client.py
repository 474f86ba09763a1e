"""Requests to the broker: repeated if it is unreachable or asks for it, with its problems as errors."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx

from broker.cli.uploading.failure import BrokerSilent, UploadFailed
from broker.client.wire import (
    COMPOSING_SECONDS,
    DIRECT,
    PATIENCE_SECONDS,
    REST_SECONDS,
    RETRIED,
    bare_token,
    document_of,
    reason_of,
    seconds_to_rest,
)

TRIES = 4
"""How often an unanswered request is sent in all."""
RETRIED_HERE = RETRIED | {HTTPStatus.CONFLICT}
"""The statuses after which a request is repeated; a conflict ends by itself, unless parts are missing."""
PARTS_MISSING = "parts-missing"
PROMOTION_RUNNING = "promotion-running"


class BrokerClient:
    """Send requests to one broker. `url` is that of its routes, prefix included.

    Raises ValueError for a token that no header can carry. It may be used by several threads.
    """

    def __init__(self, url: str, token: str, *, rest: Callable[[float], object]) -> None:
        self.url = url.rstrip("/")
        self._rest = rest
        bearer = {"Authorization": f"Bearer {bare_token(token)}"}
        self._http = httpx.Client(headers=bearer, timeout=30, mounts=dict.fromkeys(DIRECT))

    def request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer's document; retry if the answer asks for it. Raises UploadFailed."""
        unanswered, patience = 0, PATIENCE_SECONDS
        composing = COMPOSING_SECONDS
        while True:
            try:
                answer = self._http.request(method, self.url + path, **request)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                unanswered += 1
                if unanswered == TRIES or isinstance(
                    error, httpx.ConnectError | httpx.InvalidURL | httpx.UnsupportedProtocol
                ):
                    raise BrokerSilent(f"No broker answers at {self.url}: {reason_of(error)}") from None
                self._rest(REST_SECONDS)
                continue
            seconds, problem = seconds_to_rest(answer), _problem(answer)
            if problem == PROMOTION_RUNNING and composing > 0:
                composing -= seconds
            elif answer.status_code not in RETRIED_HERE or problem == PARTS_MISSING or patience < seconds:
                return self._accepted(answer)
            else:
                patience -= seconds
            self._rest(seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _accepted(self, answer: httpx.Response) -> dict[str, Any]:
        document = document_of(answer)
        if answer.is_success and "media_id" in document:
            return document
        # A path without a route answers with a problem of no specific type.
        if "detail" not in document or document.get("type", "about:blank") == "about:blank":
            raise UploadFailed(
                f"{self.url} answers with {answer.status_code}, but it is not a broker; "
                "the URL needs the path of its routes, such as http://127.0.0.1:8000/api/v1/s3-media"
            )
        raise UploadFailed(f"{document.get('title', answer.status_code)}: {document['detail']}", _problem(answer))


def _problem(answer: httpx.Response) -> str:
    return "" if answer.is_success else str(document_of(answer).get("type", "")).rpartition(":")[2]
