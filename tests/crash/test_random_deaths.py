"""Clients that issue while the broker is killed at random: every received media is recorded."""

import asyncio
import json
import random
import re

from tests.crash.client import MP4, bearer
from tests.crash.conftest import World

CLIENTS = 64
ROUNDS = 20
LAST_DEATH_SECONDS = 0.3
"""The longest life of the process after the first answer of a round."""

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
GONE = (ConnectionError, asyncio.IncompleteReadError)


async def test_every_media_that_a_client_received_is_recorded(world: World) -> None:
    received: set[str] = set()
    for _ in range(ROUNDS):
        before = len(received)
        await issue_until_it_dies(world, random.uniform(0, LAST_DEATH_SECONDS), received)  # noqa: S311
        assert len(received) > before
        assert world.broker.was_killed
        world.restart()
    found = world.find()
    recorded = {str(media.id) for media in found.media}
    assert received <= recorded
    assert world.wrong() == []
    # Each client has at most one unanswered request per round.
    assert len(recorded) - len(received) <= CLIENTS * ROUNDS


async def issue_until_it_dies(world: World, lives_seconds: float, received: set[str]) -> None:
    """Let all clients issue without a pause; kill the broker `lives_seconds` after the first answer."""
    answered = asyncio.Event()

    async def issue_on(number: int) -> None:
        asked = request(f"owner-{number % 8}")
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(world.broker.origin.rpartition(":")[2]))
            while True:
                writer.write(asked)
                received.add(await read_media_id(reader))
                answered.set()
        except GONE:
            return

    issuing = [asyncio.create_task(issue_on(number)) for number in range(CLIENTS)]
    await answered.wait()
    await asyncio.sleep(lives_seconds)
    await asyncio.to_thread(world.broker.kill)
    await asyncio.gather(*issuing)


def request(owner: str) -> bytes:
    """Return the bytes of an issue; a client library would take longer to build them than the broker to answer."""
    body = json.dumps(MP4)
    headers = {"Host": "broker", "Content-Type": "application/json", "Content-Length": len(body), **bearer(owner)}
    lines = ["POST /api/v1/s3-media/upload HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", body]).encode()


async def read_media_id(reader: asyncio.StreamReader) -> str:
    """Read one answer and return the id of the issued media."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    assert head.startswith(b"HTTP/1.1 201 ")
    assert length is not None
    return str(json.loads(await reader.readexactly(int(length[1])))["media_id"])
