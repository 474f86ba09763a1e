"""The Python client's patience: how long a request is repeated, by what the broker answers."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from freezegun import freeze_time

from broker.client import AsyncClient, BrokerProblem, ClientError, Unreachable
from tests.support.scripted import Reply, scripted

READY = Reply(200, json.dumps({"success": True, "media_id": "7", "status": "ready"}).encode())
LOST = Reply(reset=True)


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


async def test_every_request_is_repeated_as_often_once_the_broker_was_reached() -> None:
    with freeze_time("2026-01-01", real_asyncio=True) as frozen:
        script = [READY, *[LOST] * 9, READY]
        async with scripted(*script) as server, AsyncClient(server.url, "token", rest=Clock(frozen).rest) as client:
            await client.link("7")
            await client.link("7")
    assert len(server.requests) == len(script)
