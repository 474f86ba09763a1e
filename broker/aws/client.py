"""The S3 client: signed requests over pooled connections, retried when S3 is silent or busy.

It knows HTTP and XML, and no media. boto3 would take a thread for each call, and twenty times the processor time.
"""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from xml.etree.ElementTree import Element, ParseError

import aiohttp
import structlog
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from yarl import URL

from broker import metrics
from broker.clock import Clock, utc_now
from broker.domain.s3.sigv4 import Address, Credentials, query_string, signed_headers, uri_encode
from broker.errors import CredentialsExpired, StorageRefused, StorageUnavailable

log = structlog.get_logger()

MAX_ATTEMPTS = 3
"""The maximum number of attempts of one call. It is retried if S3 is silent or busy, or if its connection breaks."""
BACKOFF_SECONDS = 0.2
"""The longest pause before the second attempt. It doubles with each one; the pause is drawn at random below it."""
COPY_SHARE = 0.75
"""The share of the pool that copies may take: a copy lasts as long as its object is large, and the quick calls, such as
deletes and HEADs, do not wait behind them."""
CONNECT_SECONDS = 5.0
"""The longest time that a connection may take to open, unless the timeout of an answer is shorter."""
BUSY_CODES = frozenset({"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
"""Errors that a later attempt may not meet. Source: Amazon S3 API Reference, "Error responses"."""
EXPIRED_CODES = frozenset({"ExpiredToken", "TokenRefreshRequired"})
"""Errors that new credentials end: the call is repeated with them if the source has others."""


class ConnectionBroken(Exception):
    """A connection broke before its answer, as one does that S3 closed while it was idle."""


class Absent(Exception):
    """S3 answered 404, and the bucket is there."""


class PreconditionFailed(Exception):
    """S3 answered 412: a condition of the request does not hold."""


@dataclass(frozen=True)
class Answer:
    """Hold an answer of S3. The names in `headers` are compared without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def xml(self) -> Element:
        """Return the root of the body, with bare tag names. Raises ValueError if it is no XML."""
        return self._root

    @cached_property
    def _root(self) -> Element:
        try:
            root: Element = fromstring(self.body)
        except (ParseError, DefusedXmlException) as error:
            raise ValueError("the answer is not XML") from error
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root


Call = Callable[..., Awaitable[Answer]]
"""The signature of `S3Client.call`."""


class S3Client:
    """Send signed requests to one bucket. Use one client in one event loop."""

    def __init__(
        self,
        address: Address,
        credentials: Callable[[datetime], Awaitable[Credentials]],
        renew: Callable[[Credentials, datetime], bool],
        *,
        region: str,
        timeout_seconds: float,
        pool_size: int,
        authorities: ssl.SSLContext,
        clock: Clock = utc_now,
    ) -> None:
        """`timeout_seconds` bounds the wait for each piece of an answer, `pool_size` the calls under way.

        `credentials` returns the keys that are valid at an instant. `renew` forgets keys that S3 calls expired, and
        returns whether `credentials` has others. `authorities` holds the certificates to trust.
        """
        self._address = address
        self._url = URL(address.url, encoded=True)
        self._credentials = credentials
        self._renew = renew
        self._region = region
        self.clock = clock
        self._authorities = authorities
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(timeout_seconds, CONNECT_SECONDS), sock_read=timeout_seconds
        )
        self._places = _Places(pool_size)
        self._places_of_copies = _Places(max(1, int(pool_size * COPY_SHARE)))
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        operation: str,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        has_result: bool = False,
        is_copy: bool = False,
    ) -> Answer:
        """Send one request, up to MAX_ATTEMPTS times, and return its successful answer.

        The names in `headers` are in lower case. With `has_result` the answer's body must be XML, and an error in
        it counts, also under status 200 (Amazon S3 API Reference, "CopyObject"). With `is_copy` it takes one of the
        places of copies. Raises Absent, PreconditionFailed, StorageUnavailable and StorageRefused.
        """
        with metrics.S3_SECONDS.labels(operation).time():
            async with self._places_of_copies if is_copy else nullcontext(), self._places:
                with metrics.S3_CALLS.track_inprogress():
                    return await self._call_repeatedly(
                        operation, method, key, query or {}, headers or {}, body, has_result
                    )

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        if self._session is not None:
            await self._session.close()

    async def _call_repeatedly(
        self,
        operation: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
        has_result: bool,
    ) -> Answer:
        cause, request_id = "", ""
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                metrics.S3_RETRIES.labels(operation).inc()
                await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS * 2 ** (attempt - 1)))  # noqa: S311
            now = self.clock()
            try:
                keys = await self._credentials(now)
                answer = await self._send(keys, now, method, key, query, headers, body)
            except CredentialsExpired as error:
                _note_failure(operation, "CredentialsExpired", "")
                raise StorageUnavailable(operation=operation, cause="CredentialsExpired") from error
            except (aiohttp.ClientError, ConnectionBroken, TimeoutError, OSError) as error:
                cause, request_id = type(error).__name__, ""
                continue
            code = _error_code(answer, has_result=has_result)
            if code is None:
                return answer
            cause, request_id = code, answer.headers.get("x-amz-request-id", "")
            if answer.status in {200, 429} or answer.status >= 500 or code in BUSY_CODES:
                continue
            if self._means_expired(method, code, answer, keys) and self._renew(keys, now):
                continue
            raise self.failure(operation, code, answer)
        _note_failure(operation, cause, request_id)
        raise StorageUnavailable(operation=operation, cause=cause)

    def _means_expired(self, method: str, code: str, answer: Answer, keys: Credentials) -> bool:
        """Return whether an answer means, or may mean, that the session of `keys` has expired.

        An answer to HEAD has no body, so that ExpiredToken is a bare 400 (Amazon S3 API Reference, "HeadObject").
        """
        if method != "HEAD":
            return code in EXPIRED_CODES
        elsewhere = answer.headers.get("x-amz-bucket-region") not in {None, self._region}
        return answer.status == 400 and keys.session_token is not None and not elsewhere

    async def _send(
        self,
        keys: Credentials,
        now: datetime,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._authorities),
                timeout=self._timeout,
                proxy=proxy_for(self._address.url),
                middlewares=(_once,),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        signed = signed_headers(
            keys,
            self._address,
            method,
            key,
            now=now,
            region=self._region,
            query=query,
            headers=headers,
            body=body,
        )
        url = URL.build(
            scheme=self._url.scheme,
            authority=self._url.authority,
            path=self._url.raw_path + uri_encode(key, safe="/"),
            query_string=query_string(query),
            encoded=True,
        )
        async with self._session.request(
            method, url, headers=signed, data=body or None, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    def failure(self, operation: str, code: str, answer: Answer) -> Exception:
        """Return the error for an answer that another attempt would not change."""
        if answer.status == 404 and code != "NoSuchBucket":
            return Absent()
        if answer.status == 412:
            return PreconditionFailed()
        facts = {}
        region = answer.headers.get("x-amz-bucket-region")
        if region not in {None, self._region}:
            facts = {"bucket_region": region, "setting": "AWS_S3_REGION"}
        elif code == "RequestTimeTooSkewed":
            facts = {"hint": "the clock of this machine differs from S3's by more than 15 minutes"}
        _note_failure(operation, code, answer.headers.get("x-amz-request-id", ""), **facts)
        if answer.status == 409 or code in BUSY_CODES or code in EXPIRED_CODES:
            return StorageUnavailable(operation=operation, cause=code)
        return StorageRefused(operation=operation, code=code)


class _Places(asyncio.Semaphore):
    """The places of calls to S3; a call that has to wait for one is counted."""

    async def acquire(self) -> Literal[True]:
        with metrics.S3_WAITING.track_inprogress() if self.locked() else nullcontext():
            return await super().acquire()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once. If its connection broke, aiohttp would resend it, besides the attempts of the call."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionBroken from error


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url` (`HTTPS_PROXY`, `NO_PROXY` and the like), or None.

    aiohttp's `trust_env` would look for it at each request, and for a password in a `.netrc`, on two more threads.
    """
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _error_code(answer: Answer, *, has_result: bool) -> str | None:
    """Return S3's code for an error, or None if the request succeeded. An answer to HEAD has its status alone."""
    if answer.status < 300 and not has_result:
        return None
    try:
        root = answer.xml()
    except ValueError:
        return "InvalidAnswer" if answer.status < 300 else str(answer.status)
    if root.tag == "Error":
        return root.findtext("Code") or str(answer.status)
    return None if answer.status < 300 else str(answer.status)


def _note_failure(operation: str, cause: str, request_id: str, **facts: object) -> None:
    """Count a failure and log it, by S3's code or an error's name: messages may hold keys."""
    metrics.S3_ERRORS.labels(operation, cause).inc()
    if request_id:
        facts["s3_request_id"] = request_id
    log.warning("s3 failed", operation=operation, cause=cause, **facts)
