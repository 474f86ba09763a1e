"""`broker erase`: erase all that one owner has."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.operating import migrated_store, operator_settings
from broker.cli.terminal import confirm, errors_as_exit_status, refuse, say

if TYPE_CHECKING:
    from broker.settings import Settings


def erase(
    owner: Annotated[str, typer.Argument(help="The owner: the `sub` of its tokens, or the user that a backend names.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for a confirmation.")] = False,
) -> None:
    """Let the worker erase all media of one owner, with their objects, records and webhooks."""
    with errors_as_exit_status():
        from broker.domain.access.owners import is_owner

        if not is_owner(owner):
            refuse("OWNER: should be 1 to 255 printable characters without surrounding spaces")
        settings = operator_settings()
        owned, issued = asyncio.run(_counts(settings, owner))
        behalf = f" and its name in {issued} media of others" if issued else ""
        if not yes:
            confirm(f"Erase {owner!r}, with {owned} media{behalf}, for good?")
        asyncio.run(_record(settings, owner))
    say(f"The worker will erase {owner!r}: {owned} media{behalf} now, and those that follow until it is done.")


async def _counts(settings: "Settings", owner: str) -> tuple[int, int]:
    """Return how many media `owner` has, and how many it issued on behalf of others."""
    async with migrated_store(settings) as store:
        return await store.removal.count_of(owner), await store.removal.count_issued(owner)


async def _record(settings: "Settings", owner: str) -> None:
    async with migrated_store(settings) as store:
        await store.removal.record_erasure(owner, datetime.now(UTC))
