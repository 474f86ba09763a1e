"""`broker media`: list, show and delete media, for operators with access to the database."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from broker.cli.operating import logged, migrated_store, operator_settings, require_migrated
from broker.cli.terminal import confirm, errors_as_exit_status, refuse, say
from broker.domain.media import GONE, State

if TYPE_CHECKING:
    from broker.domain.media import Media
    from broker.settings import Settings
    from broker.store import Store

Result = TypeVar("Result")
LISTED = [state for state in State if state not in GONE]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

media = typer.Typer(name="media", help="List, show and delete media of any owner.", no_args_is_help=True)


@media.command("list")
def list_media(
    owner: Annotated[str | None, typer.Option(help="Only the media of this owner.")] = None,
    state: Annotated[State | None, typer.Option(help="Only the media in this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many media, the newest first.", min=1, max=10_000)] = 50,
    before: Annotated[UUID | None, typer.Option(help="Only older media than this one: the next page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List media, the newest first, each with the reason if it was rejected. Deleted media are not listed."""
    if state in GONE:
        refuse(f"--state: should be one of {', '.join(LISTED)}; `broker media show` shows a deleted media")
    with errors_as_exit_status():
        records = asyncio.run(_in_store(lambda store: store.list(owner, state=state, limit=limit, before=before)))
    if as_json:
        say(json.dumps({"media": [facts_of(record) for record in records]}, indent=2))
        return
    for record in records:
        size = record.size if record.size is not None else record.promised_size
        reason = f"  {record.differences}" if record.differences else ""
        named = f"  {record.filename}" if record.filename else ""
        say(
            f"{record.id}  {record.created_at:%Y-%m-%d %H:%M:%S}  {record.state:9}  {record.owner}  "
            f"{record.content_type}  {size if size is not None else 'unknown'} bytes{named}{reason}"
        )
    if not records:
        say("No media matches.")


@media.command()
def show(
    media_id: Annotated[UUID, typer.Argument(help="The media's id.")],
    as_json: AsJson = False,
) -> None:
    """Show all that is recorded of a media in any state: why it was rejected, its keys in S3, when the sweep is due."""
    with errors_as_exit_status():
        record = asyncio.run(_in_store(lambda store: store.get(media_id, None)))
    facts = facts_of(record)
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if value not in (None, {}, []):
            say(f"{name + ':':24}{value if isinstance(value, str) else json.dumps(value)}")


@media.command()
def delete(
    media_ids: Annotated[list[UUID], typer.Argument(help="The ids of the media.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete media of any owner, and their objects."""
    if not yes:
        confirm(f"Delete {len(media_ids)} media and their objects?")
    with errors_as_exit_status():
        absent = asyncio.run(_delete(operator_settings(), media_ids))
    if as_json:
        deleted = [str(media_id) for media_id in media_ids if media_id not in absent]
        say(json.dumps({"deleted": deleted, "absent": list(map(str, absent))}))
    else:
        for media_id in media_ids:
            say(f"{media_id}  {'there is no such media' if media_id in absent else 'deleted'}")
    if absent:
        raise typer.Exit(1)


def facts_of(record: "Media") -> dict[str, Any]:
    """Return all fields of a record as JSON has them, and the keys of its objects."""
    from broker.domain.keys import every_final_key, staging_key

    facts = {name: _as_json(value) for name, value in record._asdict().items()}
    return facts | {"staging_key": staging_key(record.id), "final_keys": every_final_key(record)}


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


async def _in_store(read: "Callable[[Store], Awaitable[Result]]") -> Result:
    """Read from the store. Neither a bucket nor a secret is needed, so they need not be set."""
    from broker.settings import load_database_settings

    async with migrated_store(logged(load_database_settings())) as store:
        return await read(store)


async def _delete(settings: "Settings", media_ids: list[UUID]) -> list[UUID]:
    """Delete media, and return the ids of those that are not there."""
    from broker.errors import MediaNotFound
    from broker.wiring import running

    require_migrated(settings)
    absent = []
    async with running(settings) as (services, _):
        for media_id in media_ids:
            try:
                await services.lifecycle.delete(media_id, None)
            except MediaNotFound:
                absent.append(media_id)
    return absent
