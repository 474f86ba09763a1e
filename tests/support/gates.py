"""Buckets whose calls a test counts, holds, or accompanies by an overwrite."""

import asyncio
from typing import Any

from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from tests.support import overwriter
from tests.support.world import World


class Gate(Bucket):
    """A bucket that notes its operations, and holds those named in `held` until `let_go` is set."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.operations: list[str] = []
        self.held: set[str] = set()
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        self.operations.append(operation)
        if operation in self.held:
            self.reached.set()
            await self.let_go.wait()
        return await super()._call(operation, method, key, **options)


def calls(world: World) -> Gate:
    """Return the gate of a broker that was made with one."""
    assert isinstance(world.bucket, Gate)
    return world.bucket


class OverwrittenPart(Bucket):
    """A bucket in which the part `number` is overwritten just before it is copied, `times` times."""

    number = 2
    times = 1
    body = b""

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        if operation == "upload_part_copy" and self.times:
            source = options["headers"]["x-amz-copy-source"].removeprefix(f"{self.config.name}/")
            if source.endswith(f"/{self.number:05}"):
                self.times -= 1
                # Each time other bytes, so that each list differs from the one before.
                body = self.body if self.times % 2 == 0 else self.body[::-1]
                await asyncio.to_thread(overwriter.puts, self.config, source, body)
        return await super()._call(operation, method, key, **options)


class OverwrittenUnconditionally(OverwrittenPart):
    """The same on a store that ignores the condition of a copy, as Ceph RGW 16 does."""

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        if operation == "upload_part_copy":
            options["headers"] = {**options["headers"]}
            # The overwrite happens in the class before this one, which reads the source alone.
            del options["headers"]["x-amz-copy-source-if-match"]
        return await super()._call(operation, method, key, **options)
