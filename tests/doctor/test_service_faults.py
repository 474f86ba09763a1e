"""Faults of the other services: each is found with its fix."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from broker.doctor import Finding, Verdict
from tests.doctor.answering import answering
from tests.doctor.deployed import Deployed, unhealthy
from tests.support.redis_cluster import running_cluster

FAIL, WARN = Verdict.FAIL, Verdict.WARN
RSA_KEY = {"kty": "RSA", "use": "sig", "kid": "one", "n": "AQAB", "e": "AQAB"}


async def only(on: Deployed, check: str, **changes: Any) -> Finding:
    """Examine with other settings; return the only unhealthy finding."""
    found = unhealthy(await on.examine(queue_url=None, **changes))
    assert set(found) == {check}
    assert found[check].cause
    return found[check]


async def test_a_database_that_was_not_migrated(deployed: Deployed, tmp_path: Path) -> None:
    finding = await only(deployed, "database", database_url=f"sqlite:///{tmp_path / 'new.db'}")
    assert (finding.verdict, finding.fix) == (FAIL, "broker migrate")


@pytest.mark.parametrize(
    ("revision", "fix"), [("0001", "broker migrate"), ("3001", "install the version that migrated it, or a newer one")]
)
async def test_a_database_that_is_a_revision_behind_or_one_too_far(deployed: Deployed, revision: str, fix: str) -> None:
    engine = sa.create_engine(deployed.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("update broker_version set version_num = :revision"), {"revision": revision})
    engine.dispose()
    finding = await only(deployed, "database")
    assert (finding.verdict, finding.fix) == (FAIL, fix)


async def test_a_database_in_a_missing_directory(deployed: Deployed, tmp_path: Path) -> None:
    finding = await only(deployed, "database", database_url=f"sqlite:///{tmp_path}/absent/broker.db")
    assert finding.detail.endswith("/absent/broker.db cannot be opened and written (unable to open database file)")
    assert finding.fix == f"ls -ld {tmp_path}/absent/broker.db"


async def test_an_unavailable_database_is_named_without_its_password(deployed: Deployed) -> None:
    finding = await only(deployed, "database", database_url="postgresql://broker:hidden@127.0.0.1:9/broker")
    assert finding.detail == "postgresql://127.0.0.1:9/broker does not answer (OperationalError)"
    assert finding.fix.startswith('psql "$BROKER_DATABASE_URL"')


@pytest.mark.parametrize(
    ("status", "published", "words"),
    [
        (200, {"keys": [{"kty": "EC", "crv": "P-256"}]}, "1 keys, none for RS256"),
        (200, {"keys": [{**RSA_KEY, "use": "enc"}]}, "1 keys, none for RS256"),
        (200, {"issuer": "https://login.example"}, "no set of keys"),
        (200, ["no", "set"], "no set of keys"),
        (404, {}, "status 404"),
        (302, {}, "status 302"),
    ],
)
async def test_an_address_without_keys(deployed: Deployed, status: int, published: Any, words: str) -> None:
    with answering(status, json.dumps(published).encode()) as url:
        finding = await only(deployed, "token keys", jwks_url=f"{url}/jwks.json", token_algorithm="RS256")
    assert finding.verdict is FAIL
    assert words in finding.detail
    assert finding.fix.startswith(f"curl -sv {url}/jwks.json")


async def test_keys_that_cannot_be_fetched(deployed: Deployed) -> None:
    finding = await only(deployed, "token keys", jwks_url="http://127.0.0.1:9/jwks.json", token_algorithm="RS256")
    assert (finding.verdict, finding.detail) == (FAIL, "http://127.0.0.1:9/jwks.json: ConnectError")


async def test_published_keys_are_healthy(deployed: Deployed) -> None:
    with answering(200, json.dumps({"keys": [RSA_KEY]}).encode()) as url:
        assert unhealthy(await deployed.examine(queue_url=None, jwks_url=url, token_algorithm="RS256")) == {}


async def test_an_unavailable_redis_is_named_without_its_password(deployed: Deployed) -> None:
    finding = await only(deployed, "rate limits", redis_url="redis://:hidden@127.0.0.1:9/0")
    assert finding.detail == "redis://127.0.0.1:9/0 does not answer (ConnectionError)"
    assert finding.fix == 'redis-cli -u "$BROKER_RATE_LIMIT_STORAGE" ping'


async def test_an_option_that_no_connection_to_redis_has_is_named(deployed: Deployed) -> None:
    finding = await only(deployed, "rate limits", redis_url="redis://:hidden@127.0.0.1:9/0?ssl=true")
    assert finding.verdict is FAIL
    assert finding.detail.startswith("BROKER_RATE_LIMIT_STORAGE: should have only options of redis-py's connections")
    assert "hidden" not in finding.detail + finding.fix


@pytest.fixture
def redis_with_a_password(tmp_path: Path) -> Iterator[str]:
    """Run a Redis that asks for the password `right`; return its host and port."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not there")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quiet = ["--save", "", "--dir", str(tmp_path), "--bind", "127.0.0.1", "--requirepass", "right"]
    server = subprocess.Popen(["redis-server", "--port", str(port), *quiet], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


async def test_a_redis_is_healthy_only_with_the_right_password(deployed: Deployed, redis_with_a_password: str) -> None:
    assert (
        unhealthy(await deployed.examine(queue_url=None, redis_url=f"redis://:right@{redis_with_a_password}/0")) == {}
    )
    finding = await only(deployed, "rate limits", redis_url=f"redis://:wrong@{redis_with_a_password}/0")
    assert finding.detail.endswith("(AuthenticationError)")


async def test_one_node_of_a_redis_cluster_does_not_count_for_all(deployed: Deployed, tmp_path: Path) -> None:
    with running_cluster(tmp_path) as ports:
        finding = await only(deployed, "rate limits", redis_url=f"redis://127.0.0.1:{ports[0]}")
        assert finding.detail == f"redis://127.0.0.1:{ports[0]} is one node of a cluster (MovedError)"
        nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
        assert unhealthy(await deployed.examine(queue_url=None, redis_url=f"redis+cluster://:@{nodes}")) == {}


async def test_webhooks_without_a_receiver(deployed: Deployed) -> None:
    with answering(405) as url:
        webhooks = {"webhook_urls": (f"{url}/hook", "http://127.0.0.1:9/hook?key=x"), "webhooks_on_loopback": True}
        finding = await only(deployed, "webhooks", **webhooks)
    assert (finding.verdict, finding.detail) == (WARN, "no answer from http://127.0.0.1:9/hook")


async def test_webhooks_to_this_machine(deployed: Deployed) -> None:
    finding = await only(deployed, "webhooks", webhook_urls=("https://localhost/hook",))
    assert (finding.verdict, finding.detail) == (FAIL, "not public: https://localhost/hook")


async def test_a_missing_queue(deployed: Deployed) -> None:
    found = unhealthy(await deployed.examine(queue_url=f"{deployed.queue_url}-of-another"))
    assert (set(found), found["queue"].verdict) == ({"queue"}, FAIL)
    assert f"aws sqs create-queue --queue-name {deployed.bucket}-uploads-of-another" in found["queue"].fix


async def test_dead_letters(deployed: Deployed) -> None:
    deployed.sqs.send_message(QueueUrl=f"{deployed.queue_url}-dead", MessageBody="{}")
    found = unhealthy(await deployed.examine())
    assert {name: finding.verdict for name, finding in found.items()} == {"dead letters": WARN}
    assert found["dead letters"].fix.startswith(f"aws sqs start-message-move-task --source-arn {deployed.queue_arn}")
