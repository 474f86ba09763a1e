"""One delivery attempt: the request can be verified, and no receiver harms the sender."""

import asyncio
import json
import resource
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from broker.egress.public_network import PublicNetwork
from broker.worker.sender import MAX_READ_BYTES, Sender
from tests.support.npm import packages, program
from tests.support.receiver import receiving
from tests.support.tls import certificate_for
from tests.worker.sending import NEXT_SECRET, SECRET, announced, secret


def local_sender(*secrets: str, seconds: float = 30) -> Sender:
    return Sender(secrets or (SECRET,), PublicNetwork(loopback=True), timeout_seconds=seconds)


async def test_a_webhook_has_the_headers_and_the_body_of_the_specification() -> None:
    async with receiving(204) as receiver:
        announcement = announced(receiver.url)
        sender = local_sender()
        answer = await sender.send(announcement, datetime.now(UTC))
        await sender.close()
    assert answer.delivered
    ((headers, body),) = receiver.requests
    document = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == announcement.message_id == f"msg_{announcement.media_id.hex}_ready"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert (document["type"], document["timestamp"]) == ("media.ready", announcement.at.isoformat())
    assert document["data"]["media_id"] == str(announcement.media_id)
    assert (document["data"]["owner"], document["data"]["size"]) == ("ann", 1000)
    assert document["data"]["metadata"] == {"title": "Größe 🎬"}


async def test_a_long_failure_is_cut() -> None:
    sender = local_sender()
    answer = await sender.send(announced(f"{'x' * 300}://app.example/hook"), datetime.now(UTC))
    await sender.close()
    assert answer.status is None
    assert answer.reason.startswith("UnsupportedProtocol: ")
    assert len(answer.reason) == 200


@pytest.mark.parametrize("known", [SECRET, NEXT_SECRET], ids=["the first", "the next"])
async def test_during_a_rotation_either_secret_verifies(known: str) -> None:
    async with receiving(200) as receiver:
        sender = local_sender(SECRET, NEXT_SECRET)
        await sender.send(announced(receiver.url), datetime.now(UTC))
        await sender.close()
    ((headers, body),) = receiver.requests
    assert Webhook(known).verify(body, headers)["type"] == "media.ready"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(known).verify(body.replace("ready", "readY"), headers)


VERIFY = """
import { readFileSync } from 'node:fs';
import { Webhook } from 'standardwebhooks';
const { body, headers, secrets, wrong } = JSON.parse(readFileSync(0, 'utf8'));
for (const secret of secrets) console.log(new Webhook(secret).verify(body, headers).type);
try { new Webhook(wrong).verify(body, headers); console.log('believed'); } catch (error) { console.log(error.name); }
"""


async def test_the_javascript_library_verifies_too() -> None:
    folder: Path = packages("standardwebhooks@1.1.1")
    (folder / "verify.mjs").write_text(VERIFY)
    async with receiving(200) as receiver:
        sender = local_sender(SECRET, NEXT_SECRET)
        await sender.send(announced(receiver.url), datetime.now(UTC))
        await sender.close()
    ((headers, body),) = receiver.requests
    told = {"body": body, "headers": headers, "secrets": [SECRET, NEXT_SECRET], "wrong": secret()}
    said = subprocess.run(
        [program("node"), "verify.mjs"],
        cwd=folder,
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["media.ready", "media.ready", "WebhookVerificationError"]


@pytest.mark.parametrize(
    ("behaviour", "delivered", "gone", "reason"),
    [
        (200, True, False, ""),
        (299, True, False, ""),
        (400, False, False, "it answered 400"),
        (404, False, False, "it answered 404"),
        (410, False, True, "it answered 410"),
        (500, False, False, "it answered 500"),
        (503, False, False, "it answered 503"),
        ("hang", False, False, "it did not answer within 1 seconds"),
        ("drip", False, False, "it did not answer within 1 seconds"),
        ("hang_up", False, False, "RemoteProtocolError"),
        ("babble", False, False, "RemoteProtocolError"),
        ("flood", True, False, ""),
    ],
)
async def test_no_receiver_breaks_the_sender(behaviour: str | int, delivered: bool, gone: bool, reason: str) -> None:
    async with receiving(behaviour) as receiver:
        sender = local_sender(seconds=1 if behaviour in {"hang", "drip"} else 60)
        began = time.monotonic()
        answer = await sender.send(announced(receiver.url), datetime.now(UTC))
        took = time.monotonic() - began
        await sender.close()
    assert (answer.delivered, answer.gone) == (delivered, gone)
    assert delivered or answer.reason.startswith(reason)
    assert took < 30  # and not as long as the receiver would go on


async def test_of_a_response_of_ten_gigabytes_only_kilobytes_are_read() -> None:
    async with receiving("flood") as receiver:
        sender = local_sender(seconds=10)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(5):
            assert (await sender.send(announced(receiver.url), datetime.now(UTC))).delivered
        await asyncio.sleep(0.1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        await sender.close()
    # What the system's own buffers on both sides hold is sent, but not read.
    assert MAX_READ_BYTES < receiver.sent_bytes < 5 * 16 * 1024**2
    assert grown < 32 * 1024
    assert receiver.connections == 5


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with receiving(200) as other, receiving(200) as receiver:
        receiver.answers = [
            receiver.status(status, "Location: http://169.254.169.254/latest/meta-data/"),
            receiver.status(status, f"Location: {other.url}"),
        ]
        sender = local_sender()
        for _ in range(2):
            answer = await sender.send(announced(receiver.url), datetime.now(UTC))
            assert answer.reason == f"it answered {status}"
        await sender.close()
    assert (len(receiver.requests), len(other.requests)) == (2, 0)


async def test_a_short_response_leaves_its_connection_for_the_next_webhook() -> None:
    async with receiving(200) as receiver:
        sender = local_sender()
        for _ in range(3):
            assert (await sender.send(announced(receiver.url), datetime.now(UTC))).delivered
        await sender.close()
    assert receiver.connections == 1


async def test_tls_is_verified_against_the_name_of_the_host(tmp_path: Path) -> None:
    server_side, certificate = certificate_for("localhost", tmp_path)
    names: list[str | None] = []
    server_side.sni_callback = lambda _, name, __: names.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with receiving(200) as receiver:
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        outcomes = []
        for tls, host in ((trusting, "localhost"), (trusting, "127.0.0.1"), (None, "localhost")):
            sender = Sender([SECRET], PublicNetwork(loopback=True), tls=tls, timeout_seconds=5)
            outcomes.append((await sender.send(announced(f"https://{host}:{port}/"), datetime.now(UTC))).delivered)
            await sender.close()
        server.close()
    assert outcomes == [True, False, False]
    assert names[0] == "localhost"


async def test_the_body_is_the_same_in_every_attempt_and_only_the_signature_is_new() -> None:
    async with receiving(500) as receiver:
        announcement, now = announced(receiver.url), datetime.now(UTC)
        sender = local_sender()
        for at in (now, now + timedelta(minutes=1)):
            await sender.send(announcement, at)
        await sender.close()
    (first, body), (later, repeated) = receiver.requests
    assert (first["webhook-id"], body) == (later["webhook-id"], repeated)
    assert first["webhook-signature"] != later["webhook-signature"]
