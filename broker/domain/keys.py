"""The keys of a media's objects, derived from its id; no key holds user input."""

from uuid import UUID

from broker.domain.ids import created_on
from broker.domain.media import Media
from broker.domain.video_types import EXTENSIONS


def staging_key(media_id: UUID) -> str:
    """Return the key that the policy names: `staging/<xx>/<id>`."""
    text = str(media_id)
    return f"staging/{_spread(text)}/{text}"


def part_key(media_id: UUID, number: int) -> str:
    """Return the key that the policy of one part names: `staging/<xx>/<id>/<number>`.

    The number has five digits, so that a listing is in the order of the parts.
    """
    return f"{parts_prefix(media_id)}{number:05}"


def parts_prefix(media_id: UUID) -> str:
    """Return the prefix that the keys of all parts of a media share, and no other key."""
    return f"{staging_key(media_id)}/"


def media_id_of(key: str) -> UUID | None:
    """Return the media id of a staging key, also of a part's, or None for any other key."""
    segments = key.split("/")
    try:
        media_id = UUID(segments[2])
    except (IndexError, ValueError):
        return None
    return media_id if key == staging_key(media_id) or part_number_of(key) else None


def part_number_of(key: str) -> int | None:
    """Return the number in the key of a part, or None for any other key."""
    prefix, _, number = key.rpartition("/")
    try:
        media_id = UUID(prefix.rpartition("/")[2])
    except ValueError:
        return None
    is_number = number.isascii() and number.isdecimal()
    return int(number) if is_number and key == part_key(media_id, int(number)) else None


def final_key(media_id: UUID, content_type: str, attempt: int) -> str:
    """Return the key of one attempt to promote: `media/<xx>/YYYY/MM/DD/<id>-<attempt>.<ext>`.

    No policy names it, and no other attempt does. Attempt 0 stands for media that were promoted before attempts were
    counted; their key has no `-<attempt>`.
    """
    number = f"-{attempt}" if attempt else ""
    return f"{final_prefix(media_id)}{number}.{extension(content_type)}"


def final_prefix(media_id: UUID) -> str:
    """Return the prefix that the final keys of all attempts of a media share, and no other key."""
    day = created_on(media_id).date().isoformat().replace("-", "/")
    text = str(media_id)
    return f"media/{_spread(text)}/{day}/{text}"


def current_key(media: Media) -> str:
    """Return the final key of the latest attempt; if the media is ready, its object is there."""
    return final_key(media.id, media.content_type, media.attempt)


def lost_keys(media: Media) -> list[str]:
    """Return the final keys of all attempts before the latest one."""
    return [final_key(media.id, media.content_type, attempt) for attempt in range(1, media.attempt)]


def every_final_key(media: Media) -> list[str]:
    """Return the final keys of all attempts, among them the key of attempt 0."""
    return [final_key(media.id, media.content_type, attempt) for attempt in range(media.attempt + 1)]


def extension(content_type: str) -> str:
    """Return the extension of files of this type, without a dot."""
    return EXTENSIONS.get(content_type, "bin")


def _spread(text_of_id: str) -> str:
    """Return the two random hex digits that spread the keys over prefixes."""
    return text_of_id[-2:]
