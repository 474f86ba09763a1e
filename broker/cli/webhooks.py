"""`broker webhooks`: see what was not delivered, send it again, and try a target."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.terminal import naming_problems, refuse, say

if TYPE_CHECKING:
    from broker.domain.announcement import Announcement
    from broker.settings import Settings

webhooks = typer.Typer(name="webhooks", help="See and send what the app's backend is told.", no_args_is_help=True)


@webhooks.command("list")
def list_webhooks(
    limit: Annotated[int, typer.Option(help="How many, the oldest first.", min=1, max=10_000)] = 100,
) -> None:
    """List the targets, and what waits for them or was given up."""
    with naming_problems():
        asyncio.run(_list(_settings(), limit))


@webhooks.command()
def retry(
    target: Annotated[str | None, typer.Argument(help="The address; by default, every configured one.")] = None,
) -> None:
    """Enable targets again, and send what is kept for them now."""
    with naming_problems():
        settings = _settings()
        if target is not None and target not in settings.webhook_urls:
            refuse(f"{target!r} is not one of BROKER_WEBHOOK_URLS")
        count = asyncio.run(_retry(settings, settings.webhook_urls if target is None else (target,)))
    say(f"{count} will be sent by the worker now.")


@webhooks.command("test")
def try_target(
    target: Annotated[str | None, typer.Argument(help="The address; by default, every configured one.")] = None,
) -> None:
    """Send a `media.ready` of a media that does not exist, once, and show the answer."""
    with naming_problems():
        settings = _settings()
        if target is not None and target not in settings.webhook_urls:
            refuse(f"{target!r} is not one of BROKER_WEBHOOK_URLS")
        if not asyncio.run(_try(settings, settings.webhook_urls if target is None else (target,))):
            raise typer.Exit(1)


def _settings() -> "Settings":
    from broker import load_settings

    settings = load_settings()
    if not settings.webhook_urls:
        refuse("BROKER_WEBHOOK_URLS: should be set")
    return settings


async def _list(settings: "Settings", limit: int) -> None:
    from broker.wiring import open_store

    store = open_store(settings)
    try:
        disabled, kept = await store.outbox.disabled(), await store.outbox.kept(limit)
    finally:
        await store.close()
    for target in settings.webhook_urls:
        since = disabled.get(target)
        say(f"{target}  {'told' if since is None else f'disabled since {since:%Y-%m-%d %H:%M} UTC: it answered 410'}")
    for one in kept:
        following = "given up" if one.next_at is None else f"next {one.next_at:%Y-%m-%d %H:%M:%S} UTC"
        failed = f", failed {one.attempts} times: {one.failure}" if one.failure else ""
        say(f"{one.message_id}  {one.target}  {following}{failed}")
    if not kept:
        say("Everything has been delivered.")


async def _retry(settings: "Settings", targets: tuple[str, ...]) -> int:
    from broker.domain.announcement import PATIENCE
    from broker.wiring import open_store

    now = datetime.now(UTC)
    store = open_store(settings)
    try:
        return await store.outbox.retry(targets, now, give_up_at=now + PATIENCE)
    finally:
        await store.close()


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
