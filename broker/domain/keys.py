"""The keys of a media's objects, derived from its id; no key holds user input."""

from uuid import UUID

from broker.domain.ids import created_on
from broker.domain.rules import EXTENSIONS


def staging_key(media_id: UUID) -> str:
    """Return the key that a policy names: `staging/<xx>/<id>`."""
    text = str(media_id)
    return f"staging/{_spread(text)}/{text}"


def media_id_of(key: str) -> UUID | None:
    """Return the id whose staging key this is; None for any other key."""
    try:
        media_id = UUID(key.rpartition("/")[2])
    except ValueError:
        return None
    return media_id if key == staging_key(media_id) else None


def final_key(media_id: UUID, content_type: str) -> str:
    """Return the key of the checked object: `media/<xx>/YYYY/MM/DD/<id>.<ext>`; no policy ever names it."""
    extension = EXTENSIONS.get(content_type, "bin")
    day = created_on(media_id).date().isoformat().replace("-", "/")
    text = str(media_id)
    return f"media/{_spread(text)}/{day}/{text}.{extension}"


def _spread(text_of_id: str) -> str:
    """Return what spreads the keys over prefixes: the last two digits, which are random."""
    return text_of_id[-2:]
