"""The Python client's patience: how long a request is repeated, by what the broker answers."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from broker.client import AsyncClient, BrokerProblem, ClientError, Issued, Unreachable
from broker.client.forms import Form, Forms, Outcome
from tests.support.scripted import Reply, scripted

READY = Reply(200, json.dumps({"success": True, "media_id": "7", "status": "ready"}).encode())
LOST = Reply(reset=True)
GATEWAY = Reply(502, b"<html><h1>Bad Gateway</h1></html>", {"Content-Type": "text/html"})
FOREIGN = Reply(503, b'{"message": "no healthy upstream"}', {"Retry-After": "5"})
SLOW_GATEWAY = Reply(504, b"[]")
LIMITED = Reply(429, b"slow down", {"Retry-After": "2"})
NOT_GZIP = Reply(200, b"not gzip", {"Content-Encoding": "gzip"})


def problem(status: int, slug: str, retry_after: int) -> Reply:
    """Return a problem of the broker."""
    document = {"type": f"urn:problem:{slug}", "title": slug, "detail": "retry", "success": False}
    return Reply(status, json.dumps(document).encode(), {"Retry-After": str(retry_after)})


COMPOSING = problem(409, "promotion-running", 2)
BUSY = problem(503, "storage-away", 5)


@dataclass(slots=True)
class Clock:
    """A frozen clock that each pause moves: the broker itself takes `answer_seconds` each time."""

    frozen: Any
    answer_seconds: float = 0
    pauses: list[float] = field(default_factory=list)

    async def rest(self, seconds: float) -> None:
        """Pause without waiting."""
        self.pauses.append(seconds)
        self.frozen.tick(seconds + self.answer_seconds)


@pytest.mark.parametrize(
    ("script", "error", "requests"),
    [
        pytest.param([COMPOSING] * 80 + [BUSY, READY], None, 82, id="unavailable once after a long composition"),
        pytest.param([COMPOSING, *[LOST] * 9, COMPOSING, *[LOST] * 9, READY], None, 21, id="lost answers in between"),
        pytest.param([*[BUSY] * 24, READY], None, 25, id="unavailable for two minutes"),
        pytest.param([BUSY], BrokerProblem, 25, id="unavailable for longer"),
        pytest.param([BUSY, *[LOST] * 9, READY], None, 11, id="gone for a while once it was reached"),
        pytest.param([BUSY, LOST], Unreachable, 11, id="gone for good once it was reached"),
        pytest.param([LOST], Unreachable, 4, id="never reached"),
        pytest.param([COMPOSING], BrokerProblem, 213, id="an hour of composing, the broker's time included"),
        pytest.param([GATEWAY, FOREIGN, SLOW_GATEWAY, LIMITED, READY], None, 5, id="behind a load balancer"),
        pytest.param([COMPOSING, GATEWAY, COMPOSING, GATEWAY, READY], None, 5, id="a load balancer while it composes"),
        pytest.param([GATEWAY], Unreachable, 121, id="no broker behind a load balancer"),
        pytest.param([Reply(502, b"[" * 100_000), READY], None, 2, id="an answer that is nested too deeply"),
        pytest.param([NOT_GZIP, READY], None, 2, id="an answer that is not gzip, as it claims"),
        pytest.param([NOT_GZIP], Unreachable, 4, id="no answer that can be read"),
        pytest.param([Reply(500, b"<html>")], ClientError, 1, id="a failure that no retry fixes"),
        pytest.param([problem(409, "nothing-uploaded", 2), READY], BrokerProblem, 1, id="nothing uploaded"),
    ],
)
async def test_a_completion_is_repeated_as_long_as_that_may_help(
    script: list[Reply], error: type[ClientError] | None, requests: int
) -> None:
    with freeze_time("2026-01-01", real_asyncio=True) as frozen:
        clock = Clock(frozen, answer_seconds=15 if script == [COMPOSING] else 0)
        async with scripted(*script) as server, AsyncClient(server.url, "token", rest=clock.rest) as client:
            if error is None:
                assert (await client.complete("7")).status == "ready"
            else:
                with pytest.raises(error, match=re.escape("retry" if error is BrokerProblem else server.url)):
                    await client.complete("7")
    assert len(server.requests) == requests
    assert len(clock.pauses) == requests - 1


@pytest.mark.parametrize("reply", [GATEWAY, FOREIGN])
async def test_the_status_of_a_load_balancer_is_named_in_the_end(reply: Reply) -> None:
    with freeze_time("2026-01-01", real_asyncio=True) as frozen:
        async with scripted(reply) as server, AsyncClient(server.url, "token", rest=Clock(frozen).rest) as client:
            with pytest.raises(Unreachable, match=f"^{re.escape(server.url)} answers with {reply.status}$"):
                await client.complete("7")


@pytest.mark.parametrize("port", [65536, 99999])
async def test_a_port_that_does_not_exist_is_named_at_once(port: int) -> None:
    async with AsyncClient(f"http://127.0.0.1:{port}/api", "token") as client:
        with pytest.raises(Unreachable, match=f"Invalid port: {port}"):
            await client.complete("7")


async def test_a_form_is_posted_again_after_an_answer_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    async with scripted(NOT_GZIP, Reply(204)) as s3:
        form, forms = Form.of(s3.url, {}, 1, 0, 4, expires_in=900), Forms(1)
        with (tmp_path / "film.mp4").open("rb") as film:
            outcomes = [await forms.post(form, film.fileno(), lambda _: None) for _ in range(2)]
        await forms.close()
    assert outcomes == [Outcome.INTERRUPTED, Outcome.STORED]


async def test_the_forms_of_an_issued_upload_are_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    page = {"url": "", "part_size": 4, "count": 1, "fields": {}, "forms": [], "arrived": [1], "next_from": None}
    issued = Issued.of({"media_id": "7", "status": "pending", "upload_token": "of-bert", "parts": page})
    async with scripted(READY) as server, AsyncClient(server.url, "token") as client:
        await client.resume(issued, tmp_path / "film.mp4")
    assert server.requests == ["POST /7/complete"]
    assert "authorization: bearer of-bert" in server.heads[0].lower()


async def test_every_request_is_repeated_as_often_once_the_broker_was_reached() -> None:
    with freeze_time("2026-01-01", real_asyncio=True) as frozen:
        script = [READY, *[LOST] * 9, READY]
        async with scripted(*script) as server, AsyncClient(server.url, "token", rest=Clock(frozen).rest) as client:
            await client.link("7")
            await client.link("7")
    assert len(server.requests) == len(script)
