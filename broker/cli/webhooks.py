"""`broker webhooks`: list undelivered webhooks, send them again, and test a target."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.operating import migrated_store, operator_settings
from broker.cli.terminal import errors_as_exit_status, refuse, say

if TYPE_CHECKING:
    from broker.domain.announcement import Announcement
    from broker.settings import Settings

ON_READY = "on_ready"
"""The target of announcements to a host application's function; `broker.domain.announcement` names it."""
webhooks = typer.Typer(name="webhooks", help="List, retry and test webhooks.", no_args_is_help=True)


@webhooks.command("list")
def list_webhooks(
    limit: Annotated[int, typer.Option(help="How many webhooks, the oldest first.", min=1, max=10_000)] = 100,
) -> None:
    """List the targets, and their webhooks that are not delivered yet or were given up."""
    with errors_as_exit_status():
        asyncio.run(_list(_settings(or_on_ready=True), limit))


@webhooks.command()
def retry(
    target: Annotated[
        str | None,
        typer.Argument(help="The target's URL, or on_ready for a host's function; by default, every configured URL."),
    ] = None,
) -> None:
    """Enable targets again, and send their undelivered webhooks now."""
    with errors_as_exit_status():
        settings = _settings(or_on_ready=target == ON_READY)
        count = asyncio.run(_retry(settings, _targets(settings, target)))
    say(f"The worker will send {count} webhook{'' if count == 1 else 's'} now.")


@webhooks.command("test")
def try_target(
    target: Annotated[str | None, typer.Argument(help="The target's URL; by default, every configured one.")] = None,
) -> None:
    """Send one `media.ready` of a nonexistent media, and print the answer."""
    with errors_as_exit_status():
        settings = _settings()
        if not asyncio.run(_try(settings, _targets(settings, target))):
            raise typer.Exit(1)


def _settings(*, or_on_ready: bool = False) -> "Settings":
    settings = operator_settings()
    if not settings.webhook_urls and not or_on_ready:
        refuse("BROKER_WEBHOOK_URLS: should be set")
    return settings


def _targets(settings: "Settings", target: str | None) -> tuple[str, ...]:
    """Return the configured targets, or only `target`, which must be one of them."""
    if target is None:
        return settings.webhook_urls
    if target == ON_READY:  # the settings do not know whether an application has the function
        return (ON_READY,)
    if target not in settings.webhook_urls:
        refuse(f"{target!r} is not one of BROKER_WEBHOOK_URLS")
    return (target,)


async def _list(settings: "Settings", limit: int) -> None:
    async with migrated_store(settings) as store:
        disabled, kept = await store.outbox.disabled(), await store.outbox.kept(limit)
    for target in settings.webhook_urls:
        since = disabled.get(target)
        say(
            f"{target}  {'enabled' if since is None else f'disabled since {since:%Y-%m-%d %H:%M} UTC: it answered 410'}"
        )
    for row in kept:
        following = "given up" if row.next_at is None else f"next {row.next_at:%Y-%m-%d %H:%M:%S} UTC"
        failed = f", failed {row.attempts} times: {row.failure}" if row.failure else ""
        say(f"{row.message_id}  {row.target}  {following}{failed}")
    if not kept:
        say("Everything has been delivered.")


async def _retry(settings: "Settings", targets: tuple[str, ...]) -> int:
    from broker.domain.announcement import PATIENCE

    now = datetime.now(UTC)
    async with migrated_store(settings) as store:
        return await store.outbox.retry(targets, now, give_up_at=now + PATIENCE)


async def _try(settings: "Settings", targets: tuple[str, ...]) -> bool:
    from broker.wiring import webhook_sender

    now = datetime.now(UTC)
    sender = webhook_sender(settings)
    try:
        answers = [await sender.send(_example(target, now), now) for target in targets]
    finally:
        await sender.close()
    for target, answer in zip(targets, answers, strict=True):
        say(f"{target}  {'delivered' if answer.delivered else answer.reason}")
    return all(answer.delivered for answer in answers)


def _example(target: str, now: datetime) -> "Announcement":
    from dataclasses import replace

    from broker.domain.announcement import announcements
    from broker.domain.ids import new_id
    from broker.domain.media import Media, State

    media = Media(
        id=new_id(now),
        owner="test",
        state=State.READY,
        content_type="video/mp4",
        max_size=1,
        created_at=now,
        policy_expires_at=now,
        ready_at=now,
    )
    (announcement,) = announcements(media, (target,), now)
    return replace(announcement, data=announcement.data | {"test": True})
