"""The broker's answers, as far as a program needs them; `document` holds the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Issued:
    """An issued upload. A backend passes `document` on to its page, whose helper takes it as `issued`."""

    media_id: str
    status: str
    upload_token: str | None = field(repr=False)
    """The token for this one upload, if it was issued on behalf of a user. It is a secret of that user."""
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Issued":
        """Read the answer to `POST /upload`."""
        return cls(document["media_id"], document["status"], document.get("upload_token"), document)


@dataclass(frozen=True, slots=True)
class Media:
    """A media. A link is there if the media is ready and the caller may read it."""

    media_id: str
    status: str
    content_type: str | None
    size: int | None
    """Bytes."""
    filename: str | None
    metadata: Mapping[str, str]
    signed_url: str | None = field(repr=False)
    expires_at: datetime | None
    """When the link expires."""
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Media":
        """Read an entry of the list, or the answer to a completion or to a request for a link."""
        expires_at = document.get("expires_at")
        return cls(
            media_id=document["media_id"],
            status=document["status"],
            content_type=document.get("content_type"),
            size=document.get("size"),
            filename=document.get("filename"),
            metadata=document.get("metadata") or {},
            signed_url=document.get("signed_url"),
            expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
            document=document,
        )
