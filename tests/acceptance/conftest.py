"""The S3 servers over which the acceptance suite runs, and the broker in front of them."""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker import wiring
from broker.aws.bucket import Bucket
from broker.domain.media import Arrived
from broker.domain.sigv4 import Credentials
from tests.acceptance import servers
from tests.acceptance.client import Client
from tests.acceptance.forms import Upload
from tests.acceptance.known_gaps import KNOWN_GAPS
from tests.acceptance.servers import S3
from tests.acceptance.serving import served_broker
from tests.support.ceph_rgw import CephRGW, missing_programs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for an S3 once for each server chosen."""
    if "s3" in metafunc.fixturenames:
        metafunc.parametrize("s3", servers.chosen(), indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is known to fail, strictly."""
    for item in items:
        if isinstance(item, pytest.Function) and "s3" in getattr(item, "fixturenames", ()):
            server = str(item.callspec.params["s3"])
            name = item.name.replace(f"[{server}-", "[").removesuffix(f"[{server}]")
            if reason := KNOWN_GAPS[server].get(name):
                item.add_marker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))


@pytest.fixture(scope="session")
def ceph_rgw() -> Iterator[CephRGW]:
    """Run Ceph's gateway for the session; a machine without its programs skips, but never in CI."""
    if missing := missing_programs():
        absent = f"Ceph RGW needs {', '.join(missing)}"
        if "CI" in os.environ:
            pytest.fail(absent)
        pytest.skip(absent)
    with CephRGW() as ceph:
        yield ceph


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> S3:
    """Return a bucket in one of the servers under test."""
    if request.param == "aws":
        return servers.aws()
    server = request.getfixturevalue({"embedded": "embedded_s3", "ceph": "ceph_rgw"}[request.param])
    found = S3(
        request.param,
        f"acceptance-{secrets.token_hex(6)}",
        server.region,
        Credentials(server.access_key, server.secret_key),
        server.endpoint_url,
    )
    found.create_bucket()
    return found


@pytest.fixture(scope="session")
def versioned_s3(s3: S3) -> S3:
    """Return a bucket that keeps versions, in the same server; AWS's bucket stays as it is."""
    if s3.endpoint_url is None:
        return s3
    versioned = replace(s3, bucket=f"{s3.bucket}-versioned")
    versioned.create_bucket()
    versioned.client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": "Enabled"})
    return versioned


@pytest.fixture
def upload(s3: S3) -> Iterator[Upload]:
    """Return an upload to a place of its own, where nothing is left afterwards."""
    upload = Upload(s3)
    yield upload
    for key in s3.keys(upload.prefix):
        s3.client.delete_object(Bucket=s3.bucket, Key=key)


@pytest.fixture(scope="session")
def broker(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Serve a broker as it is set by default."""
    with served_broker(s3, tmp_path_factory.mktemp("broker")) as http:
        yield http


@pytest.fixture
def client(broker: httpx.Client, s3: S3) -> Iterator[Client]:
    """Return one user of the broker that is set by default."""
    client = Client(broker, s3)
    yield client
    client.forget()


@pytest.fixture
def start_broker(s3: S3, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Return a function that serves a broker with settings of the test's own, and returns a user of it."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Client:
            client = Client(stack.enter_context(served_broker(s3, tmp_path, **settings)), s3)
            stack.callback(client.forget)
            return client

        yield start


@pytest.fixture
def before_promotion(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Return a list to fill with what happens between a HEAD that was judged and the copy: one entry each time.

    It works in brokers that are started afterwards.
    """
    happenings: list[Callable[[], object]] = []

    class EventfulBucket(Bucket):
        async def promote(self, source: str, target: str, judged: Arrived) -> bool:
            if happenings:
                await asyncio.to_thread(happenings.pop(0))
            return await super().promote(source, target, judged)

    monkeypatch.setattr(wiring, "Bucket", EventfulBucket)
    return happenings
