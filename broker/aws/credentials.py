"""The keys that sign: fixed ones, or those of botocore's credential chain, refreshed in time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import structlog
from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError

from broker.domain.s3.sigv4 import Credentials
from broker.errors import CredentialsExpired

REFRESH_BEFORE = timedelta(minutes=15)
"""The remaining lifetime at which botocore itself refreshes keys."""
REFRESH_EVERY = timedelta(seconds=10)
NO_ANSWER = (BotoCoreError, ResponseParserError, RuntimeError)
"""The errors of botocore without a readable response. It raises RuntimeError if keys stay expired after a refresh."""

log = structlog.get_logger()


def client_keys(credentials: Credentials | None) -> dict[str, str | None]:
    """Return the arguments that give a botocore client these keys, or its ordinary chain if there are none."""
    if credentials is None:
        return {}
    return {
        "aws_access_key_id": credentials.access_key,
        "aws_secret_access_key": credentials.secret_key,
        "aws_session_token": credentials.session_token,
    }


class CredentialSource:
    """A source of valid keys that never blocks; new keys are fetched on a thread, in one fetch at a time.

    Nothing waits for a fetch while the current keys are valid, so an unavailable STS is noticed only once they expire.
    """

    def __init__(self, session: boto3.Session, fixed: Credentials | None, threads: ThreadPoolExecutor) -> None:
        self._session = session
        self._threads = threads
        self._fixed = fixed is not None
        self._keys = fixed
        self._is_outdated = False
        """Whether the session holds keys that S3 calls expired, so that the chain is read anew, from its beginning."""
        self._not_before: datetime | None = None
        self._fetching: asyncio.Future[Credentials] | None = None

    async def current(self, now: datetime) -> Credentials:
        """Return keys that are valid at `now`. Raises CredentialsExpired."""
        keys = self._keys
        if keys is None or (_has_expired(keys, now) and not self._fixed):
            keys = await asyncio.shield(self._fetch())
        elif keys.expires_at is not None and now >= keys.expires_at - REFRESH_BEFORE and not self._fixed:
            self._refresh(now)
        if _has_expired(keys, now):
            raise CredentialsExpired
        return keys

    def renew(self, keys: Credentials, now: datetime) -> bool:
        """Forget `keys`, which S3 calls expired; return whether the next call signs with others.

        Fixed keys cannot be replaced, and keys of the chain are replaced every REFRESH_EVERY at most. This happens to
        keys that name no expiry, such as session keys in a file, and to those whose session was revoked.
        """
        if self._fixed:
            return False
        if keys is not self._keys:
            return True  # another call has renewed them
        if self._not_before is not None and now < self._not_before:
            return False
        self._not_before = now + REFRESH_EVERY
        self._keys, self._is_outdated = None, True
        return True

    def _refresh(self, now: datetime) -> None:
        """Fetch new keys in the background, unless that was begun less than REFRESH_EVERY ago."""
        if self._not_before is None or now >= self._not_before:
            self._not_before = now + REFRESH_EVERY
            self._fetch()

    def _fetch(self) -> "asyncio.Future[Credentials]":
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().run_in_executor(self._threads, self._read)
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, fetch: "asyncio.Future[Credentials]") -> None:
        self._fetching = None
        if fetch.cancelled():
            return
        if (failure := fetch.exception()) is None:
            self._keys = fetch.result()
        else:
            log.warning("no new S3 credentials", error=type(failure.__cause__ or failure).__name__)

    def _read(self) -> Credentials:
        try:
            if self._is_outdated:
                self._session, self._is_outdated = boto3.Session(), False
            source: Any = self._session.get_credentials()
            frozen = source.get_frozen_credentials() if source is not None else None
        except Exception as error:  # a provider of the chain reads files, runs programs and asks services
            raise CredentialsExpired from error
        if frozen is None:
            raise CredentialsExpired
        expiry: datetime | None = getattr(source, "_expiry_time", None)  # botocore has no public name for it
        expires_at = expiry.astimezone(UTC) if expiry is not None else None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at)


def _has_expired(keys: Credentials, now: datetime) -> bool:
    return keys.expires_at is not None and now >= keys.expires_at
