"""The rules of uploads, as clients read them."""

from typing import Literal

from pydantic import with_config
from typing_extensions import TypedDict

from broker.api.schemas.answers import answer_config


class AllowedType(TypedDict):
    """An allowed content type, with the other names and the file extensions by which systems know it."""

    content_type: str
    other_names: list[str]
    """Names that a request may use too; the broker replaces them by `content_type`."""
    extensions: list[str]
    """Without a dot; empty for a type that is not a video type of the broker's table."""


@with_config(
    answer_config(
        success=True,
        types=[
            {
                "content_type": "video/quicktime",
                "other_names": ["video/mov", "video/x-quicktime"],
                "extensions": ["mov", "qt"],
            }
        ],
        min_size=1,
        max_size=107_374_182_400,
        max_form_size=5_368_709_120,
        part_size=16_777_216,
        max_parts=10_000,
        max_duration_seconds=300,
        max_metadata_size=2048,
    )
)
class Rules(TypedDict):
    """The rules for the uploads of a caller. Sizes are bytes.

    The quota and the application may refuse an upload all the same.
    """

    success: Literal[True]
    types: list[AllowedType]
    min_size: int
    max_size: int
    max_form_size: int
    """The maximum size of an upload in one form; a larger file, up to `max_size`, needs `resumable: true`."""
    part_size: int
    """The size of the parts of a resumable upload; for a file of more than 1,000 such parts it grows."""
    max_parts: int
    max_duration_seconds: int
    max_metadata_size: int
    """The maximum size of `metadata` as JSON."""
