"""The keys that sign: fixed ones, or those of botocore's credential chain, refreshed in time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from broker.domain.s3.sigv4 import Credentials
from broker.errors import CredentialsExpired

REFRESH_BEFORE = timedelta(minutes=15)
"""The remaining lifetime at which botocore itself refreshes keys."""
REFRESH_EVERY = timedelta(seconds=10)
NO_ANSWER = (BotoCoreError, ResponseParserError, RuntimeError)
"""The errors of botocore without a readable response. It raises RuntimeError if keys stay expired after a refresh."""


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
    """A source of valid keys that never blocks; new keys are fetched on a thread, in one fetch at a time."""

    def __init__(self, session: boto3.Session, fixed: Credentials | None, threads: ThreadPoolExecutor) -> None:
        self._session = session
        self._threads = threads
        self._fixed = fixed is not None
        self._keys = fixed
        self._not_before: datetime | None = None
        self._fetching: asyncio.Future[Credentials] | None = None

    async def current(self, now: datetime) -> Credentials:
        """Return keys that are valid at `now`. Raises CredentialsExpired."""
        keys = self._keys
        if keys is None:
            return await self._fetch()
        if keys.expires_at is None or now < keys.expires_at - REFRESH_BEFORE:
            return keys
        if self._fixed:
            if now >= keys.expires_at:
                raise CredentialsExpired
            return keys
        if now < keys.expires_at and self._not_before is not None and now < self._not_before:
            return keys
        self._not_before = now + REFRESH_EVERY
        keys = await self._fetch()
        if keys.expires_at is not None and now >= keys.expires_at:
            raise CredentialsExpired
        return keys

    async def _fetch(self) -> Credentials:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().run_in_executor(self._threads, self._read)
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def _fetched(self, fetch: "asyncio.Future[Credentials]") -> None:
        self._fetching = None
        if not fetch.cancelled() and fetch.exception() is None:
            self._keys = fetch.result()

    def _read(self) -> Credentials:
        try:
            source: Any = self._session.get_credentials()
            frozen = source.get_frozen_credentials() if source is not None else None
        except (ClientError, *NO_ANSWER) as error:  # the keys of a role come from STS
            raise CredentialsExpired from error
        if frozen is None:
            raise CredentialsExpired
        expiry: datetime | None = getattr(source, "_expiry_time", None)  # botocore has no public name for it
        expires_at = expiry.astimezone(UTC) if expiry is not None else None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at)
