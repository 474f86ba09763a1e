"""A client of resumable uploads: it posts the parts of a file by their forms."""

import os
from collections.abc import Iterable
from typing import Any

import httpx

from broker.domain.keys import final_prefix, parts_prefix
from broker.domain.media import Media
from broker.lifecycle.requests import Issued, PartsPage
from tests.support.world import World

MIB = 1024**2
PART = 5 * MIB
FILE = os.urandom(PART) + os.urandom(PART) + os.urandom(1000)
"""A file of three parts; the last one is small."""
COUNT = 3
DAY = 86_400
LIMITS = {"max_size": 100_000_000, "part_size": PART}
"""Of a broker for uploads in parts."""


def piece(content: bytes, number: int, part_size: int = PART) -> bytes:
    """Return the bytes of one part."""
    return content[(number - 1) * part_size : number * part_size]


OTHER_PART = piece(FILE, 2)[::-1]
"""Of the size of the second part, with other bytes."""


async def issue(world: World, content: bytes = FILE, **asked: Any) -> Issued:
    """Ask for the upload of a file in parts."""
    return await world.issue(size=len(content), resumable=True, **asked)


async def uploaded(world: World, content: bytes = FILE, **asked: Any) -> Issued:
    """Upload a file in parts, without completing it."""
    issued = await issue(world, content, **asked)
    post_parts(page_of(issued), content)
    return issued


def page_of(issued: Issued) -> PartsPage:
    """Return the page in the answer to an issue."""
    assert issued.parts is not None
    return issued.parts


async def parts(world: World, media: Media, *, first: int = 1, limit: int = 100, max_forms: int = 100) -> PartsPage:
    """Ask for a page of parts."""
    return await world.verbs.parts(media.id, "anna", first=first, limit=limit, max_forms=max_forms)


def post_part(page: PartsPage, number: int, content: bytes = FILE, **changed: str) -> httpx.Response:
    """Post one part by its form; `changed` replaces fields."""
    form = next(form for form in page.forms if form.number == number)
    fields = {**page.fields, **form.fields, **changed}
    body = piece(content, number, page.media.layout.part_size)
    return httpx.post(page.url, data=fields, files={"file": ("part", body)})


def post_parts(page: PartsPage, content: bytes = FILE, numbers: Iterable[int] | None = None) -> None:
    """Post parts by their forms; all that the page has a form for, unless `numbers` names some."""
    for number in [form.number for form in page.forms] if numbers is None else numbers:
        answer = post_part(page, number, content)
        assert answer.status_code == 201, answer.text


def left_over(world: World, media: Media) -> list[str]:
    """Return the keys of the versions of staged parts, and of the multipart uploads that are in progress."""
    bucket = world.bucket.config.name
    listing = world.s3.list_object_versions(Bucket=bucket, Prefix=parts_prefix(media.id))
    uploads = world.s3.list_multipart_uploads(Bucket=bucket, Prefix=final_prefix(media.id))
    versions = [*listing.get("Versions", ()), *listing.get("DeleteMarkers", ()), *uploads.get("Uploads", ())]
    return [entry["Key"] for entry in versions]
