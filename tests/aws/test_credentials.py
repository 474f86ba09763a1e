"""The keys that sign: fixed ones, and those of botocore's chain, fetched on a thread and refreshed in time."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from structlog.testing import capture_logs

from broker.aws import client
from broker.aws.bucket import Bucket
from broker.aws.credentials import REFRESH_BEFORE, REFRESH_EVERY, CredentialSource, client_keys
from broker.domain.media import Arrived
from broker.domain.s3.sigv4 import Credentials
from broker.errors import CredentialsExpired, StorageRefused, StorageUnavailable
from tests.support.scripted import MD5, Reply, ScriptedS3, bucket_at, scripted

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BERLIN = timezone(timedelta(hours=1))
FIXED = Credentials("AKIAIOSFODNN7EXAMPLE", "a-secret-key", None)


class Chain:
    """A session of boto3 that gives these keys in turn, and the last ones repeatedly; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = self.answered = 0
        self.threads: set[str] = set()
        self.let_go = threading.Event()
        self.let_go.set()

    def get_credentials(self) -> Any:
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        self.let_go.wait(10)
        self.answered += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def keys(number: int = 1, expires_at: datetime | None = None) -> SimpleNamespace:
    """Return keys as botocore holds them."""
    frozen = SimpleNamespace(access_key=f"AKIA{number}", secret_key=f"secret {number}", token=f"token {number}")
    return SimpleNamespace(get_frozen_credentials=lambda: frozen, _expiry_time=expires_at)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="keys") as pool:
        yield pool


def source(threads: ThreadPoolExecutor, chain: Chain, fixed: Credentials | None = None) -> CredentialSource:
    return CredentialSource(chain, fixed, threads)


async def current(own: CredentialSource, now: datetime) -> str:
    """Return the current access key, once the fetch that this call may have begun has ended."""
    access_key = (await own.current(now)).access_key
    while own._fetching is not None:
        await asyncio.sleep(0.001)
    return access_key


@pytest.mark.parametrize("expires_at", [None, NOW + SECOND, NOW + 2 * REFRESH_BEFORE])
async def test_fixed_keys_are_used_until_they_expire(threads: ThreadPoolExecutor, expires_at: datetime | None) -> None:
    chain, fixed = Chain(keys()), replace(FIXED, expires_at=expires_at)
    assert await source(threads, chain, fixed).current(NOW) == fixed
    assert chain.asked == 0


async def test_expired_fixed_keys_are_not_replaced(threads: ThreadPoolExecutor) -> None:
    chain = Chain(keys())
    with pytest.raises(CredentialsExpired):
        await source(threads, chain, replace(FIXED, expires_at=NOW)).current(NOW)
    assert chain.asked == 0


async def test_keys_of_the_chain_are_fetched_once(threads: ThreadPoolExecutor) -> None:
    chain = Chain(keys())
    own = source(threads, chain)
    fetched = [await own.current(NOW + number * timedelta(days=1)) for number in range(3)]
    assert fetched == [Credentials("AKIA1", "secret 1", "token 1", None)] * 3
    assert chain.asked == 1


async def test_keys_are_refreshed_when_botocore_would(threads: ThreadPoolExecutor) -> None:
    ends = NOW + timedelta(hours=1)
    chain = Chain(keys(1, ends.astimezone(BERLIN)), keys(2, ends + timedelta(hours=1)))
    own = source(threads, chain)
    first = await own.current(NOW)
    assert (first.expires_at, str(first.expires_at)) == (ends, "2026-01-02 04:04:05+00:00")
    assert (await own.current(ends - REFRESH_BEFORE - SECOND), chain.asked) == (first, 1)
    assert (await current(own, ends - REFRESH_BEFORE), chain.asked) == ("AKIA1", 2)
    assert (await current(own, ends), chain.asked) == ("AKIA2", 2)


async def test_keys_that_botocore_cannot_refresh_are_used_and_asked_for_every_ten_seconds(
    threads: ThreadPoolExecutor,
) -> None:
    ends = NOW + timedelta(minutes=10)
    chain = Chain(keys(1, ends))
    own = source(threads, chain)
    times = [NOW, NOW + SECOND, NOW + REFRESH_EVERY, NOW + REFRESH_EVERY + SECOND, NOW + 2 * REFRESH_EVERY + SECOND]
    asked = []
    for at in times:
        assert await current(own, at) == "AKIA1"
        asked.append(chain.asked)
    assert asked == [1, 2, 2, 3, 4]
    await current(own, ends - SECOND)
    with pytest.raises(CredentialsExpired):
        await own.current(ends)
    assert chain.asked == 6


NO_ACCESS = ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole")


async def test_keys_are_used_until_they_expire_while_the_chain_fails(threads: ThreadPoolExecutor) -> None:
    ends = NOW + timedelta(minutes=9)
    own = source(threads, Chain(keys(1, ends), NO_ACCESS))
    with capture_logs() as logs:
        used = [await current(own, NOW + number * SECOND) for number in range(9 * 60)]
        assert set(used) == {"AKIA1"}
        with pytest.raises(CredentialsExpired):
            await own.current(ends)
    assert logs[0] == {"event": "no new S3 credentials", "error": "ClientError", "log_level": "warning"}


async def test_nothing_waits_for_a_refresh_while_the_keys_are_valid(threads: ThreadPoolExecutor) -> None:
    ends = NOW + timedelta(minutes=9)
    chain = Chain(keys(1, ends), keys(2, ends + timedelta(hours=1)))
    own = source(threads, chain)
    await own.current(NOW)
    chain.let_go.clear()
    assert (await own.current(NOW)).access_key == "AKIA1"
    waiting = asyncio.create_task(own.current(ends))
    await asyncio.sleep(0)
    assert not waiting.done()
    chain.let_go.set()
    assert (await waiting).access_key == "AKIA2"


BAD_CACHE = json.JSONDecodeError("Expecting value", "", 0)


@pytest.mark.parametrize(
    "answer",
    [None, NO_ACCESS, NoCredentialsError(), RuntimeError("still expired"), FileNotFoundError("token"), BAD_CACHE],
    ids=repr,
)
async def test_without_an_answer_of_the_chain_nothing_is_signed_and_the_next_call_asks_again(
    threads: ThreadPoolExecutor, answer: Exception | None
) -> None:
    own = source(threads, Chain(answer, keys()))
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    with pytest.raises(CredentialsExpired):
        await own.current(NOW)
    assert (await own.current(NOW)).access_key == "AKIA1"
    assert unhandled == []


async def test_without_the_token_file_of_a_web_identity_nothing_is_signed(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/broker")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "absent"))
    own = CredentialSource(boto3.Session(region_name="eu-central-1"), None, threads)
    with pytest.raises(CredentialsExpired) as expired:
        await own.current(NOW)
    assert isinstance(expired.value.__cause__, FileNotFoundError)


async def test_callers_share_one_fetch_and_one_that_leaves_ends_it_for_no_other(threads: ThreadPoolExecutor) -> None:
    chain = Chain(keys())
    chain.let_go.clear()
    own = source(threads, chain)
    leaving, *staying = (asyncio.create_task(own.current(NOW)) for _ in range(5))
    while not chain.asked:
        await asyncio.sleep(0.001)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    chain.let_go.set()
    assert {each.access_key for each in await asyncio.gather(*staying)} == {"AKIA1"}
    assert (chain.asked, chain.threads) == (1, {"keys_0"})


async def test_a_bucket_closes_while_the_chain_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(None)
    chain.let_go.clear()
    monkeypatch.setattr(boto3, "Session", lambda botocore_session: chain)
    bucket = bucket_at("http://127.0.0.1:1", credentials=None)
    asking = asyncio.create_task(bucket.credentials(NOW))
    while not chain.asked:
        await asyncio.sleep(0.001)
    await bucket.close()
    assert (chain.answered, chain.threads) == (0, {"credentials_0"})
    chain.let_go.set()
    with pytest.raises(CredentialsExpired):
        await asking


EXPIRED = Reply(400, b"<Error><Code>ExpiredToken</Code></Error>")
THERE = Reply(headers={"content-length": "7", "etag": f'"{MD5}"', "content-type": "video/mp4"})
COPIED = Reply(body=f"<CopyObjectResult><ETag>&quot;{MD5}&quot;</ETag></CopyObjectResult>".encode())
JUDGED = Arrived(size=7, etag=MD5, content_type="video/mp4")


def head(bucket: Bucket) -> Awaitable[Any]:
    return bucket.head("staging")


def promote(bucket: Bucket) -> Awaitable[Any]:
    return bucket.promote("staging", "media", JUDGED)


def tokens(server: ScriptedS3) -> list[str]:
    """Return the session token of each request."""
    lines = (line for head in server.heads for line in head.splitlines())
    return [line.partition(": ")[2] for line in lines if line.lower().startswith("x-amz-security-token:")]


@pytest.fixture
def chains(monkeypatch: pytest.MonkeyPatch) -> list[Chain]:
    """Return the sessions that boto3 opens in turn; each has read its own keys from the chain."""
    chains = [Chain(keys(number)) for number in range(1, 5)]
    monkeypatch.setattr(boto3, "Session", lambda **_: chains.pop(0))
    return chains


@pytest.mark.parametrize(
    ("call", "refused", "answer", "result"),
    [(promote, EXPIRED, COPIED, True), (head, Reply(400), THERE, JUDGED)],
    ids=["a copy", "a head, whose answer has no code"],
)
async def test_keys_that_s3_calls_expired_are_read_anew(
    chains: list[Chain],
    call: Callable[[Bucket], Awaitable[Any]],
    refused: Reply,
    answer: Reply,
    result: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0)
    async with scripted(refused, answer) as server:
        bucket = bucket_at(server.url, credentials=None)
        assert [await call(bucket), await call(bucket)] == [result] * 2
        await bucket.close()
    assert tokens(server) == ["token 1", "token 2", "token 2"]


async def test_keys_that_stay_expired_are_read_again_every_ten_seconds_at_most(
    chains: list[Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0)
    async with scripted(EXPIRED) as server:
        bucket = bucket_at(server.url, credentials=None)
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await promote(bucket)
        await bucket.close()
    assert tokens(server) == ["token 1", *["token 2"] * 3]


async def test_calls_whose_keys_another_one_has_renewed_use_the_new_ones(threads: ThreadPoolExecutor) -> None:
    own = source(threads, Chain(keys(1), keys(2)))
    first = await own.current(NOW)
    assert own.renew(first, NOW)
    assert own.renew(first, NOW)
    assert not source(threads, Chain(keys()), FIXED).renew(FIXED, NOW)


async def test_a_head_that_another_region_refuses_renews_no_keys(chains: list[Chain]) -> None:
    async with scripted(Reply(400, headers={"x-amz-bucket-region": "us-west-2"})) as server:
        bucket = bucket_at(server.url, credentials=None)
        with pytest.raises(StorageRefused):
            await head(bucket)
        await bucket.close()
    assert tokens(server) == ["token 1"]


def test_botocore_gets_the_same_keys() -> None:
    assert client_keys(None) == {}
    assert client_keys(Credentials("a", "b", "c")) == {
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "aws_session_token": "c",
    }
