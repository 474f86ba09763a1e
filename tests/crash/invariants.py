"""What holds for rows and objects, whatever happened; one list for every test of this directory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broker.domain.keys import final_key, staging_key
from broker.domain.media import Arrived, Media, State
from broker.domain.quota import Usage, footprint
from broker.store.rows import COLUMNS
from broker.store.schema import usage as usage_table

UNDER_WAY = (State.PENDING, State.PROMOTING)


@dataclass(frozen=True, slots=True)
class Found:
    """All rows of a database and all objects of a bucket."""

    media: Sequence[Media]
    usage: Mapping[str, Usage]
    objects: Mapping[str, Arrived]

    def of(self, media_id: object) -> Media | None:
        """Return the media with this id, as a UUID or its text."""
        return next((media for media in self.media if str(media.id) == str(media_id)), None)


def find_all(database: sa.Engine, s3: Any, bucket: str) -> Found:
    """Look everything up, past the broker."""
    with database.connect() as connection:
        media = [Media._make(row) for row in connection.execute(sa.select(*COLUMNS))]
        counters = sa.select(usage_table.c.owner, *(usage_table.c[name] for name in Usage._fields))
        usage = {owner: Usage(*numbers) for owner, *numbers in connection.execute(counters)}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
    return Found(media, usage, {key: _head(s3, bucket, key) for key in keys})


def _head(s3: Any, bucket: str, key: str) -> Arrived:
    answer = s3.head_object(Bucket=bucket, Key=key)
    return Arrived(answer["ContentLength"], answer["ETag"].strip('"'), answer["ContentType"])


def broken(found: Found) -> Iterator[str]:
    """Say what does not hold although it must at any moment at which no request is under way."""
    finals = {final_key(media.id, media.content_type): media for media in found.media}
    staged = {staging_key(media.id) for media in found.media}
    for key, media in finals.items():
        there = found.objects.get(key)
        if media.state is State.READY and (there is None or media.judged is None):
            yield f"{media.id} is ready without an object"
        elif media.state is State.READY and there is not None and not _is_judged(media, there):
            yield f"{media.id} is ready, but its object is {there}, and {media.judged} was judged"
    for key in found.objects:
        if key not in finals and key not in staged:
            yield f"{key} is of no media"
    owners = {media.owner for media in found.media} | set(found.usage)
    for owner in owners:
        held = sum((footprint(media) for media in found.media if media.owner == owner), Usage())
        if found.usage.get(owner, Usage()) != held:
            yield f"{owner} holds {held}, but is counted with {found.usage.get(owner)}"


def unsettled(found: Found, now: datetime) -> Iterator[str]:
    """Say what is left although all policies are over and the sweep has looked at everything that was due."""
    yield from broken(found)
    finals = {final_key(media.id, media.content_type): media for media in found.media}
    for key in found.objects:
        if key not in finals:
            yield f"{key} outlives its policy"
        elif (media := finals[key]).state is not State.READY:
            yield f"{key} is the final object of a media that is {media.state}"
    for media in found.media:
        if media.state in (*UNDER_WAY, State.DELETING):
            yield f"{media.id} is still {media.state}"
        if media.due_at is not None and media.due_at <= now:
            yield f"{media.id} is due since {media.due_at}"


def _is_judged(media: Media, there: Arrived) -> bool:
    return (there.size, there.etag, there.content_type) == (media.size, media.etag, media.content_type)
