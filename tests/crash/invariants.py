"""The invariants of rows and objects, shared by all tests of this directory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from botocore.exceptions import ClientError

from broker.domain.access.quota import Usage, footprint
from broker.domain.keys import current_key, every_final_key, part_key, staging_key
from broker.domain.media import Arrived, Media, State
from broker.store.rows import COLUMNS
from broker.store.schema import usage as usage_table

UNDER_WAY = (State.PENDING, State.PROMOTING)


@dataclass(frozen=True, slots=True)
class Found:
    """All rows of a database and all objects of a bucket."""

    media: Sequence[Media]
    usage: Mapping[str, Usage]
    objects: Mapping[str, Arrived]
    multipart_uploads: Sequence[str] = ()
    """The keys of the multipart uploads that are in progress."""

    def of(self, media_id: object) -> Media | None:
        """Return the media with this id, as a UUID or its text."""
        return next((media for media in self.media if str(media.id) == str(media_id)), None)


def find_all(database: sa.Engine, s3: Any, bucket: str) -> Found:
    """Read all rows and objects, independently of the broker."""
    with database.connect() as connection:
        media = [Media._make(row) for row in connection.execute(sa.select(*COLUMNS))]
        counters = sa.select(usage_table.c.owner, *(usage_table.c[name] for name in Usage._fields))
        usage = {owner: Usage(*numbers) for owner, *numbers in connection.execute(counters)}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    listed = [found for page in pages for found in page.get("Contents", ())]
    heads = {entry["Key"]: _head(s3, bucket, entry["Key"], entry["ETag"], entry["LastModified"]) for entry in listed}
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
    there = {key: head for key, head in heads.items() if head is not None}
    return Found(media, usage, there, [upload["Key"] for upload in uploads])


@lru_cache(maxsize=10_000)
def _head(s3: Any, bucket: str, key: str, etag: str, modified_at: datetime) -> Arrived | None:
    """Return an object, or None if a purge in the background has just removed it.

    An object that the listing shows unchanged is not asked for again: a test reads its bucket after each of its steps.
    """
    try:
        answer = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return None
    return Arrived(answer["ContentLength"], answer["ETag"].strip('"'), answer["ContentType"])


def broken(found: Found) -> Iterator[str]:
    """Yield what is wrong although it must hold whenever no request is running."""
    known = {key for media in found.media for key in _keys(media)}
    for media in found.media:
        if media.state is not State.READY:
            continue
        there = found.objects.get(current_key(media))
        if there is None or media.judged is None:
            yield f"{media.id} is ready without an object"
        elif not _is_judged(media, there):
            yield f"{media.id} is ready, but its object is {there}, and {media.judged} was judged"
    for key in {*found.objects, *found.multipart_uploads} - known:
        yield f"{key} belongs to no media"
    owners = {media.owner for media in found.media} | set(found.usage)
    for owner in owners:
        held = sum((footprint(media) for media in found.media if media.owner == owner), Usage())
        if found.usage.get(owner, Usage()) != held:
            yield f"{owner} holds {held}, but is counted with {found.usage.get(owner)}"


def unsettled(found: Found, now: datetime) -> Iterator[str]:
    """Yield what is left although all policies have expired and the sweep has settled everything that was due."""
    yield from broken(found)
    ready = {current_key(media) for media in found.media if media.state is State.READY}
    for key in found.objects.keys() - ready:
        yield f"{key} is left over"
    for key in found.multipart_uploads:
        yield f"a multipart upload to {key} is left over"
    for media in found.media:
        if media.state in (*UNDER_WAY, State.DELETING):
            yield f"{media.id} is still {media.state}"
        if media.due_at is not None and media.due_at <= now:
            yield f"{media.id} is due since {media.due_at}"


def _keys(media: Media) -> list[str]:
    """Return all keys that may hold an object of a media."""
    staged = [staging_key(media.id)]
    if media.part_size is not None:
        staged = [part_key(media.id, number) for number in range(1, media.layout.count + 1)]
    return staged + every_final_key(media)


def _is_judged(media: Media, there: Arrived) -> bool:
    return (there.size, there.etag, there.content_type) == (media.size, media.etag, media.content_type)
