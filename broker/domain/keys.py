"""The keys of a media's objects, derived from its id; no key holds user input."""

from uuid import UUID

from broker.domain.ids import created_on
from broker.domain.media import Media
from broker.domain.video_types import EXTENSIONS


def staging_key(media_id: UUID) -> str:
    """Return the key that the policy names: `staging/<xx>/<id>`."""
    text = str(media_id)
    return f"staging/{_spread(text)}/{text}"


def media_id_of(key: str) -> UUID | None:
    """Return the media id of a staging key, or None for any other key."""
    try:
        media_id = UUID(key.rpartition("/")[2])
    except ValueError:
        return None
    return media_id if key == staging_key(media_id) else None


def final_key(media_id: UUID, content_type: str, attempt: int) -> str:
    """Return the key of one attempt to promote: `media/<xx>/YYYY/MM/DD/<id>-<attempt>.<ext>`.

    No policy names it, and no other attempt does. Attempt 0 stands for media that were promoted before attempts were
    counted; their key has no `-<attempt>`.
    """
    day = created_on(media_id).date().isoformat().replace("-", "/")
    text = str(media_id)
    number = f"-{attempt}" if attempt else ""
    return f"media/{_spread(text)}/{day}/{text}{number}.{extension(content_type)}"


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
