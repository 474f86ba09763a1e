"""The S3 servers under test, and a broker in front of each."""

import asyncio
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
from broker.domain.s3.sigv4 import Credentials
from tests.acceptance import servers
from tests.acceptance.client import Client
from tests.acceptance.forms import Upload
from tests.acceptance.known_gaps import KNOWN_GAPS
from tests.acceptance.servers import S3
from tests.acceptance.serving import served_broker

SERVER_FIXTURES = {"embedded": "embedded_s3", "ceph": "ceph_rgw", "seaweedfs": "seaweedfs"}
"""The fixture that runs each server under test, by the server's name."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that requests an S3 once for each chosen server."""
    if "s3" in metafunc.fixturenames:
        metafunc.parametrize("s3", servers.chosen(), indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the known gaps of each server to fail. A gap that passes fails the run."""
    # pytest calls this hook with the tests of every folder, and others have a fixture of the same name.
    own = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in own:
        if isinstance(item, pytest.Function) and "s3" in item.fixturenames:
            server = str(item.callspec.params["s3"])
            name = item.name.replace(f"[{server}-", "[").removesuffix(f"[{server}]")
            if reason := KNOWN_GAPS[server].get(name):
                item.add_marker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> S3:
    """Return a bucket in one of the servers under test."""
    if request.param == "aws":
        return servers.aws()
    server = request.getfixturevalue(SERVER_FIXTURES[request.param])
    bucket = S3(
        request.param,
        f"acceptance-{secrets.token_hex(6)}",
        server.region,
        Credentials(server.access_key, server.secret_key),
        server.endpoint_url,
    )
    bucket.create_bucket()
    return bucket


@pytest.fixture(scope="session")
def versioned_s3(s3: S3) -> S3:
    """Return a bucket with versioning in the same server. AWS's bucket is used as it is."""
    if s3.endpoint_url is None:
        return s3
    versioned = replace(s3, bucket=f"{s3.bucket}-versioned")
    versioned.create_bucket()
    versioned.client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": "Enabled"})
    return versioned


@pytest.fixture
def upload(s3: S3) -> Iterator[Upload]:
    """Return an upload to a prefix of its own, and delete all objects there afterwards."""
    upload = Upload(s3)
    yield upload
    for key in s3.keys(upload.prefix):
        s3.client.delete_object(Bucket=s3.bucket, Key=key)


@pytest.fixture(scope="session")
def broker(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Serve a broker with its default settings."""
    with served_broker(s3, tmp_path_factory.mktemp("broker")) as http:
        yield http


@pytest.fixture
def client(broker: httpx.Client, s3: S3) -> Iterator[Client]:
    """Return a user of the broker with default settings."""
    client = Client(broker, s3)
    yield client
    client.remove_objects()


@pytest.fixture
def start_broker(s3: S3, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Return a function that serves a broker with the given settings and returns a user of it."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Client:
            client = Client(stack.enter_context(served_broker(s3, tmp_path, **settings)), s3)
            stack.callback(client.remove_objects)
            return client

        yield start


@pytest.fixture
def before_promotion(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Return a list of functions. Each promotion first calls and removes one, between its HEAD and its copy.

    It works in brokers that start afterwards.
    """
    actions: list[Callable[[], object]] = []

    class OvertakenBucket(Bucket):
        async def promote(self, source: str, target: str, judged: Arrived) -> bool:
            if actions:
                await asyncio.to_thread(actions.pop(0))
            return await super().promote(source, target, judged)

    monkeypatch.setattr(wiring, "Bucket", OvertakenBucket)
    return actions
