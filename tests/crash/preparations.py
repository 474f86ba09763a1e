"""Media in the states from which courses begin, uploaded by one form or in parts."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.domain.media import State
from tests.crash.client import Client
from tests.crash.conftest import World
from tests.crash.courses import complete, dies
from tests.support import dying


def nothing(world: World) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Uploads:
    """One way to upload, in which each function prepares a media and returns its id."""

    issue: Callable[..., dict[str, Any]]
    upload: Callable[..., None]
    other: bytes
    """What a replay sends instead of the promised bytes."""

    def issued(self, world: World) -> str:
        return str(self.issue(world.client)["media_id"])

    def issued_with_key(self, world: World) -> str:
        """Return the idempotency key instead."""
        key = secrets.token_hex(8)
        self.issue(world.client, key=key)
        return key

    def uploaded(self, world: World, **asked: str) -> str:
        answer = self.issue(world.client, **asked)
        self.upload(world.client, answer)
        return str(answer["media_id"])

    def ready(self, world: World) -> str:
        media_id = self.uploaded(world)
        assert world.client.complete(media_id).status_code == 200
        return media_id

    def replayed(self, world: World) -> str:
        return self._replayed(world, is_deleted=False)

    def deleted_and_replayed(self, world: World) -> str:
        return self._replayed(world, is_deleted=True)

    def died_before(self, step: str) -> Callable[[World], str]:
        """Return a preparation whose broker died before a step of the completion."""

        def prepared(world: World) -> str:
            steps = complete(world, self.uploaded(world)).split(",")
            media_id = self.uploaded(world)
            with dies(world):
                complete(world, media_id, **{"x-die-before": str(steps.index(step) + 1)})
            world.restart()
            media = world.find().of(media_id)
            assert media is not None
            assert media.state is State.PROMOTING
            return media_id

        return prepared

    def _replayed(self, world: World, *, is_deleted: bool) -> str:
        answer = self.issue(world.client)
        media_id = str(answer["media_id"])
        self.upload(world.client, answer)
        assert world.client.complete(media_id).status_code == 200
        if is_deleted:
            assert world.client.delete(media_id).status_code == 200
        self.upload(world.client, answer, self.other)
        return media_id


ONE_FORM = Uploads(Client.issue, Client.upload, dying.OTHER)
IN_PARTS = Uploads(Client.issue_in_parts, Client.upload_parts, dying.IN_PARTS[::-1])
