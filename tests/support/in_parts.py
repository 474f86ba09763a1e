"""A client of resumable uploads: it posts the parts of a file by their forms."""

import os
from collections.abc import Iterable

import httpx

from broker.lifecycle.requests import PartsPage

MIB = 1024**2
PART = 5 * MIB
FILE = os.urandom(PART) + os.urandom(PART) + os.urandom(1000)
"""A file of three parts; the last one is small."""


def piece(content: bytes, number: int, part_size: int = PART) -> bytes:
    """Return the bytes of one part."""
    return content[(number - 1) * part_size : number * part_size]


def post_part(page: PartsPage, number: int, content: bytes = FILE, **changed: str) -> httpx.Response:
    """Post one part by its form; `changed` replaces fields."""
    form = next(form for form in page.forms if form.number == number)
    fields = {**page.fields, **form.fields, **changed}
    return httpx.post(
        page.url, data=fields, files={"file": ("part", piece(content, number, page.media.layout.part_size))}
    )


def post_parts(page: PartsPage, content: bytes = FILE, numbers: Iterable[int] | None = None) -> None:
    """Post parts by their forms; all that the page has a form for, unless `numbers` names some."""
    for number in [form.number for form in page.forms] if numbers is None else numbers:
        answer = post_part(page, number, content)
        assert answer.status_code == 201, answer.text
