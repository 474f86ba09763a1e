"""The bucket's outcome for each fault of S3 and of the network in between."""

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import Gauge
from structlog.testing import capture_logs

from broker.aws import client
from broker.aws.bucket import Bucket
from broker.domain.media import Arrived
from broker.domain.s3.sigv4 import Credentials
from broker.errors import BrokerError, StorageRefused, StorageUnavailable
from broker.metrics import S3_CALLS, S3_ERRORS, S3_RETRIES, S3_WAITING
from tests.support.scripted import MD5, Reply, ScriptedS3, bucket_at, scripted
from tests.support.tls import certificate_for

JUDGED = Arrived(size=7, etag=MD5, content_type="video/mp4")
THERE = Reply(headers={"content-length": "7", "etag": f'"{MD5}"', "content-type": "video/mp4"})
COPIED = Reply(body=f"<CopyObjectResult><ETag>&quot;{MD5}&quot;</ETag></CopyObjectResult>".encode())
ABSENT = Reply(404, headers={"x-amz-request-id": "R1"})
HEAD, COPY, HEAD_OF_COPY = "HEAD /videos/staging", "PUT /videos/media", "HEAD /videos/media"

Call = Callable[[Bucket], Awaitable[Any]]


def error(status: int, code: str, **headers: str) -> Reply:
    body = f"<Error><Code>{code}</Code><Message>a secret</Message></Error>".encode()
    return Reply(status, body, {"x-amz-request-id": "R1", **{k.replace("_", "-"): v for k, v in headers.items()}})


def not_deleted(code: str) -> Reply:
    return Reply(body=f"<DeleteResult><Error><Key>b</Key><Code>{code}</Code></Error></DeleteResult>".encode())


CONFLICT = "ConditionalRequestConflict"
SETTING = "AWS_S3_REGION"
SKEWED = "the clock of this machine differs from S3's by more than 15 minutes"
ELSEWHERE = error(301, "PermanentRedirect", x_amz_bucket_region="us-west-2", location="/elsewhere")


def head(bucket: Bucket) -> Awaitable[Any]:
    return bucket.head("staging")


def promote(bucket: Bucket) -> Awaitable[Any]:
    return bucket.promote("staging", "media", JUDGED)


def purge(bucket: Bucket) -> Awaitable[Any]:
    return bucket.deletion.purge("a&b", "b")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0)


async def outcome(server: ScriptedS3, call: Call, **options: Any) -> Any:
    """Return what the call answered, or its error."""
    bucket = bucket_at(server.url, **options)
    try:
        return await call(bucket)
    except (StorageUnavailable, StorageRefused) as failure:
        return failure
    finally:
        await bucket.close()


SURVIVED: list[tuple[str, Call, list[Reply], Any, list[str]]] = [
    ("a head", head, [THERE], JUDGED, [HEAD]),
    ("a copy", promote, [COPIED], True, [COPY]),
    ("SlowDown twice", promote, [error(503, "SlowDown")] * 2 + [COPIED], True, [COPY] * 3),
    ("500 and then an answer", head, [Reply(500), THERE], JUDGED, [HEAD] * 2),
    ("429 and then an answer", head, [Reply(429), THERE], JUDGED, [HEAD] * 2),
    ("RequestTimeout", promote, [error(400, "RequestTimeout"), COPIED], True, [COPY] * 2),
    ("200 with an error once", promote, [error(200, "InternalError"), COPIED], True, [COPY] * 2),
    ("a reset without an answer", promote, [Reply(reset=True), COPIED], True, [COPY] * 2),
    ("an answer that is cut off", promote, [replace(COPIED, cut=9), COPIED], True, [COPY] * 2),
    ("truncated XML of full length", promote, [Reply(body=b"<CopyObjectResult><ETag>"), COPIED], True, [COPY] * 2),
    (
        "an answer lost after its effect",
        promote,
        [Reply(reset=True), Reply(412), THERE],
        True,
        [COPY, COPY, HEAD_OF_COPY],
    ),
    (
        "a copy of what was overwritten",
        promote,
        [Reply(412), ABSENT, Reply()],
        False,
        [COPY, HEAD_OF_COPY, "HEAD /videos/"],
    ),
    (
        "a copy without its source",
        promote,
        [error(404, "NoSuchKey"), ABSENT, Reply()],
        False,
        [COPY, HEAD_OF_COPY, "HEAD /videos/"],
    ),
    (
        "a store that ignores the condition",
        promote,
        [Reply(body=b"<CopyObjectResult><ETag>&quot;other&quot;</ETag></CopyObjectResult>")],
        False,
        [COPY],
    ),
    (
        "an opaque answer",
        promote,
        [replace(COPIED, headers={"x-amz-server-side-encryption": "aws:kms"}), THERE],
        True,
        [COPY, HEAD_OF_COPY],
    ),
    ("an answer without an ETag", promote, [Reply(body=b"<CopyObjectResult/>"), THERE], True, [COPY, HEAD_OF_COPY]),
    ("no object", head, [ABSENT, Reply()], None, [HEAD, "HEAD /videos/"]),
    (
        "a purge of what is gone",
        purge,
        [not_deleted("NoSuchKey")],
        True,
        ["POST /videos/?delete="],
    ),
]


@pytest.mark.parametrize(
    ("call", "script", "answer", "requests"), [row[1:] for row in SURVIVED], ids=[row[0] for row in SURVIVED]
)
async def test_a_fault_that_passes_changes_nothing(
    call: Call, script: list[Reply], answer: Any, requests: list[str]
) -> None:
    async with scripted(*script) as server:
        assert await outcome(server, call) == answer
    assert server.requests == requests


OPERATIONS: dict[Call, set[str]] = {
    head: {"head_object", "head_bucket"},
    promote: {"copy_object"},
    purge: {"delete_objects"},
}
ENTITY = b'<!DOCTYPE c [<!ENTITY e "a">]><CopyObjectResult><ETag>&e;</ETag></CopyObjectResult>'
FAILED: list[tuple[str, Call, Reply, type[BrokerError], str, int]] = [
    ("500 for ever", head, Reply(500), StorageUnavailable, "500", 3),
    ("a reset of each connection", head, Reply(reset=True), StorageUnavailable, "ConnectionBroken", 3),
    ("a reset of each copy", promote, Reply(reset=True), StorageUnavailable, "ConnectionBroken", 3),
    ("SlowDown for ever", promote, error(503, "SlowDown"), StorageUnavailable, "SlowDown", 3),
    ("200 with an error for ever", promote, error(200, "InternalError"), StorageUnavailable, "InternalError", 3),
    ("an answer that is no XML", promote, Reply(body=b"<html>"), StorageUnavailable, "InvalidAnswer", 3),
    ("an answer with an entity", promote, Reply(body=ENTITY), StorageUnavailable, "InvalidAnswer", 3),
    ("a head without a length", head, Reply(headers={"etag": "x", "content-length": ""}), StorageUnavailable, "", 3),
    ("a head without an ETag", head, Reply(), StorageUnavailable, "InvalidAnswer", 1),
    ("an expired session token of a head", head, Reply(400), StorageRefused, "400", 1),
    ("an expired session token of a copy", promote, error(400, "ExpiredToken"), StorageUnavailable, "ExpiredToken", 1),
    ("a conflict", promote, error(409, CONFLICT), StorageUnavailable, CONFLICT, 1),
    ("no right", head, Reply(403), StorageRefused, "403", 1),
    ("no right to copy", promote, error(403, "AccessDenied"), StorageRefused, "AccessDenied", 1),
    ("no bucket", promote, error(404, "NoSuchBucket"), StorageRefused, "NoSuchBucket", 1),
    ("no bucket behind a head", head, ABSENT, StorageRefused, "NoSuchBucket", 2),
    ("several choices", head, Reply(300), StorageRefused, "300", 1),
    ("several choices of a copy", promote, Reply(300), StorageRefused, "300", 1),
    ("several choices in XML", promote, Reply(300, b"<Choices/>"), StorageRefused, "300", 1),
    ("a redirect", promote, ELSEWHERE, StorageRefused, "PermanentRedirect", 1),
    ("no right to purge", purge, not_deleted("AccessDenied"), StorageRefused, "AccessDenied", 1),
    ("a busy purge", purge, not_deleted("InternalError"), StorageUnavailable, "InternalError", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "reply", "kind", "cause", "attempts"), [row[1:] for row in FAILED], ids=[row[0] for row in FAILED]
)
async def test_a_fault_that_stays_is_never_read_as_absent(
    call: Call, reply: Reply, kind: type[BrokerError], cause: str, attempts: int
) -> None:
    async with scripted(reply) as server:
        failure = await outcome(server, call)
    assert isinstance(failure, BrokerError)
    assert type(failure) is kind
    assert cause in {failure.facts.get("cause", failure.facts.get("code")), ""}
    assert failure.facts["operation"] in OPERATIONS[call]
    assert len(server.requests) == attempts


def noted() -> Counter[tuple[str, str, str | None]]:
    """Return the failures and the further attempts that the metrics count, by operation and code."""
    samples = chain(*(each.samples for metric in (S3_ERRORS, S3_RETRIES) for each in metric.collect()))
    return Counter(
        {
            (each.name, each.labels["operation"], each.labels.get("code")): int(each.value)
            for each in samples
            if each.name.endswith("_total")
        }
    )


@pytest.mark.parametrize(
    ("reply", "cause", "retries", "logged_as"),
    [
        (error(503, "SlowDown"), "SlowDown", 2, {"s3_request_id": "R1"}),
        (error(403, "AccessDenied"), "AccessDenied", 0, {"s3_request_id": "R1"}),
        (Reply(403), "403", 0, {}),
        (Reply(reset=True), "ConnectionBroken", 2, {}),
        (ELSEWHERE, "PermanentRedirect", 0, {"s3_request_id": "R1", "bucket_region": "us-west-2", "setting": SETTING}),
        (error(403, "AccessDenied", x_amz_bucket_region="eu-central-1"), "AccessDenied", 0, {"s3_request_id": "R1"}),
        (error(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed", 0, {"s3_request_id": "R1", "hint": SKEWED}),
    ],
    ids=["busy", "refused", "refused in silence", "reset", "another region", "the same region", "skewed"],
)
async def test_a_failure_is_counted_and_logged_by_its_operation(
    reply: Reply, cause: str, retries: int, logged_as: dict[str, str]
) -> None:
    before = noted()
    with capture_logs() as logs:
        async with scripted(reply) as server:
            failure = await outcome(server, promote)
    assert {*failure.facts.values()} == {"copy_object", cause}
    assert logs == [
        {"event": "s3 failed", "log_level": "warning", "operation": "copy_object", "cause": cause, **logged_as}
    ]
    counted = noted() - before
    assert counted.pop(("broker_s3_retries_total", "copy_object", None), 0) == retries
    assert counted == {("broker_s3_errors_total", "copy_object", cause): 1}


async def test_pauses_are_drawn_below_a_bound_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bounds = []

    def drawn(shortest: float, longest: float) -> float:
        bounds.append((shortest, longest))
        return 0

    monkeypatch.setattr(random, "uniform", drawn)
    async with scripted(Reply(500)) as server:
        await outcome(server, head)
    assert bounds == [(0, 0.2), (0, 0.4)]


def now(gauge: Gauge) -> float:
    """Return the value of a gauge without labels."""
    return sum(sample.value for each in gauge.collect() for sample in each.samples)


@pytest.mark.parametrize("call", [head, promote])
async def test_calls_under_way_and_calls_that_wait_are_counted(call: Call) -> None:
    idle = (now(S3_CALLS), now(S3_WAITING))
    async with scripted(Reply(silence=True)) as server:
        bucket = bucket_at(server.url, pool_size=1, timeout_seconds=1)
        calls = [asyncio.ensure_future(call(bucket)) for _ in range(3)]
        while not server.requests:
            await asyncio.sleep(0.01)
        assert (now(S3_CALLS) - idle[0], now(S3_WAITING) - idle[1]) == (1, 2)
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await bucket.close()
    assert (now(S3_CALLS), now(S3_WAITING)) == idle


async def test_copies_leave_places_to_quick_calls() -> None:
    async with scripted(Reply(silence=True)) as server:
        bucket = bucket_at(server.url, pool_size=4)
        calls = [asyncio.ensure_future(promote(bucket)) for _ in range(5)]
        while len(server.requests) < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert server.requests == [COPY] * 3
        calls += [asyncio.ensure_future(head(bucket)) for _ in range(2)]
        while len(server.requests) < 4:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert server.requests == [COPY] * 3 + [HEAD]
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await bucket.close()


@pytest.mark.parametrize(("timeout_seconds", "to_connect"), [(7.0, 5.0), (2.0, 2.0)])
async def test_a_connection_opens_in_a_few_seconds(
    monkeypatch: pytest.MonkeyPatch, timeout_seconds: float, to_connect: float
) -> None:
    options: dict[str, Any] = {}
    session = aiohttp.ClientSession

    def opened(**given: Any) -> aiohttp.ClientSession:
        options.update(given)
        return session(**given)

    monkeypatch.setattr(aiohttp, "ClientSession", opened)
    async with scripted(THERE) as server:
        await outcome(server, head, timeout_seconds=timeout_seconds)
    assert options["timeout"] == aiohttp.ClientTimeout(sock_connect=to_connect, sock_read=timeout_seconds)


async def test_a_closed_bucket_keeps_no_connection() -> None:
    async with scripted(THERE) as server:
        bucket = bucket_at(server.url)
        await bucket.head("staging")
        assert server.open == 1
        await bucket.close()
        while server.open:
            await asyncio.sleep(0.01)


async def test_silence_ends_after_the_timeout_and_three_attempts() -> None:
    async with scripted(Reply(silence=True)) as server:
        failure = await outcome(server, head, timeout_seconds=0.2)
    assert isinstance(failure, StorageUnavailable)
    assert server.requests == [HEAD] * 3


async def test_a_refused_connection_is_an_unavailable_s3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    failure = await outcome(ScriptedS3(url, []), head)
    assert failure.facts["cause"] == "ClientConnectorError"


async def test_a_kept_connection_that_s3_closed_costs_no_error() -> None:
    async with scripted(replace(THERE, close_later=True)) as server:
        bucket = bucket_at(server.url)
        for _ in range(5):
            assert await bucket.head("staging") == JUDGED
        await bucket.close()


async def test_connections_are_kept_and_bounded() -> None:
    async with scripted(THERE) as server:
        bucket = bucket_at(server.url, pool_size=3)
        assert await asyncio.gather(*(bucket.head("staging") for _ in range(30))) == [JUDGED] * 30
        await bucket.close()
    assert 1 <= server.connections <= 3


async def test_a_name_that_is_resolved_at_the_second_attempt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = aiohttp.ThreadedResolver.resolve
    lookups: list[str] = []

    async def failing_once(self: aiohttp.ThreadedResolver, host: str, *rest: Any, **options: Any) -> Any:
        lookups.append(host)
        if len(lookups) == 1:
            raise OSError("the name cannot be resolved")
        return await resolve(self, "127.0.0.1", *rest, **options)

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", failing_once)
    async with scripted(THERE) as server:
        server.url = server.url.replace("127.0.0.1", "store.example")
        assert await outcome(server, head) == JUDGED
    assert len(lookups) == 2


async def test_no_log_holds_a_key_a_signature_or_a_message_of_s3() -> None:
    with capture_logs() as logs:
        async with scripted(error(403, "SignatureDoesNotMatch")) as server:
            await outcome(server, promote)
    assert len(logs) == 1
    assert not {"secret", "Signature=", "AKIA"} & {
        word for word in ("secret", "Signature=", "AKIA") if word in str(logs)
    }


async def test_a_new_session_token_is_used_by_the_next_attempt() -> None:
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", "key", "token", datetime.now(UTC) + timedelta(hours=1))
    async with scripted(THERE) as server:
        assert await outcome(server, head, credentials=keys) == JUDGED
    assert "x-amz-security-token: token" in server.heads[0].lower()


async def test_an_expired_key_sends_nothing() -> None:
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", "key", "token", datetime.now(UTC) - timedelta(seconds=1))
    before = noted()
    with capture_logs() as logs:
        async with scripted(THERE) as server:
            failure = await outcome(server, head, credentials=keys)
    assert failure.facts == {"operation": "head_object", "cause": "CredentialsExpired"}
    assert server.requests == []
    assert logs == [{"event": "s3 failed", "log_level": "warning", **failure.facts}]
    assert noted() - before == {("broker_s3_errors_total", "head_object", "CredentialsExpired"): 1}


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    async with scripted(THERE) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", scheme))
        monkeypatch.setenv("NO_PROXY", "")
        assert await outcome(ScriptedS3("http://store.example", []), head) == JUDGED
    assert proxy.requests == ["HEAD http://store.example/videos/staging"]


async def test_a_proxy_gets_the_user_and_password_in_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(THERE) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://ann:secret@"))
        monkeypatch.setenv("NO_PROXY", "")
        assert await outcome(ScriptedS3("http://store.example", []), head) == JUDGED
    assert "proxy-authorization: basic yw5uonnly3jlda==" in proxy.heads[0].lower()


async def test_a_host_in_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(Reply(500)) as proxy, scripted(THERE) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await outcome(server, head) == JUDGED
    assert proxy.requests == []


async def test_s3_is_trusted_by_the_certificates_that_aws_ca_bundle_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, certificate = certificate_for("localhost", tmp_path)
    async with scripted(THERE, tls=tls) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        untrusted = await outcome(server, head)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert await outcome(server, head) == JUDGED
    assert untrusted.facts["cause"] == "ClientConnectorCertificateError"
    assert server.requests == [HEAD]
