"""The rules for uploads: accepted types, sizes, durations, metadata and redirects."""

import json
from dataclasses import dataclass

from broker.domain.media import Arrived, Media, Video
from broker.domain.origin import origin
from broker.domain.parts import MAX_PART_BYTES, part_size_for
from broker.domain.video_types import DEFAULT_TYPES, OTHER_NAMES
from broker.errors import (
    DurationNotAllowed,
    MetadataTooLarge,
    RedirectNotAllowed,
    RequestInvalid,
    ResumableRequired,
    SizeNotAllowed,
    TypeNotAllowed,
)

ACTIVE_TYPES = frozenset(
    {
        "application/ecmascript",
        "application/javascript",
        "application/x-shockwave-flash",
        "application/xml",
        "message/rfc822",
        "multipart/x-mixed-replace",
        "text/css",
        "text/ecmascript",
        "text/html",
        "text/javascript",
        "text/xml",
        "text/xsl",
    }
)
"""The types that a browser may execute with the rights of the serving host; any `…+xml` is one too."""
MIN_SIZE = 1
"""No video is empty."""
MAX_METADATA_BYTES = 2048
MAX_FORM_BYTES = MAX_PART_BYTES
"""S3 accepts at most 5 GB in one POST and in one CopyObject (Amazon S3 User Guide)."""


def media_type(content_type: str) -> str:
    """Return `type/subtype` in lower case, without parameters such as `;codecs=vp9`.

    Source: RFC 9110, section 8.3.1.
    """
    return content_type.partition(";")[0].strip().lower()


def is_active(content_type: str) -> bool:
    """Return whether a browser may execute content of this type; such media are always downloaded."""
    return content_type in ACTIVE_TYPES or content_type.endswith("+xml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The limits of accepted uploads. Sizes are bytes, durations seconds."""

    types: tuple[str, ...] = DEFAULT_TYPES
    max_size: int = 100_000_000
    max_duration_seconds: int = 300
    part_size: int = 16 * 1024**2
    """The preferred size of the parts of a resumable upload."""
    redirect_origins: tuple[str, ...] = ()

    def check_type(self, content_type: str) -> str:
        """Return the bare media type for the policy, by its usual name. Raises TypeNotAllowed."""
        bare = media_type(content_type)
        if bare not in self.types:
            bare = OTHER_NAMES.get(bare, bare)
        if bare not in self.types:
            raise TypeNotAllowed(content_type=content_type, allowed=", ".join(self.types))
        return bare

    @property
    def max_form_size(self) -> int:
        """Return the largest size of an upload that is not resumable."""
        return min(self.max_size, MAX_FORM_BYTES)

    def check_size(self, size: int | None) -> None:
        """Raise SizeNotAllowed unless `size` is unknown or within the bounds."""
        if size is not None and not MIN_SIZE <= size <= self.max_size:
            raise SizeNotAllowed(size=size, max_size=self.max_size)

    def check_form(self, size: int | None, crc64nvme: str | None) -> None:
        """Raise ResumableRequired or RequestInvalid if one form cannot take such an upload."""
        if size is not None and size > MAX_FORM_BYTES:
            raise ResumableRequired(size=size, max_form_size=self.max_form_size)
        if crc64nvme is not None:
            raise _invalid("checksum_crc64nvme", "needs resumable: true; use checksum_sha256 for one form")

    def check_parts(self, size: int | None, sha256: str | None, redirect_url: str | None) -> int:
        """Return the size of the parts of a resumable upload. Raises RequestInvalid if it cannot be one."""
        if size is None:
            raise _invalid("size", "is needed for a resumable upload")
        if sha256 is not None:
            raise _invalid("checksum_sha256", "S3 keeps none of a resumable upload; use checksum_crc64nvme")
        if redirect_url is not None:
            raise _invalid("redirect_url", "is for plain forms, which cannot upload in parts")
        return part_size_for(size, self.part_size)

    def check_duration(self, seconds: float | None) -> None:
        """Raise DurationNotAllowed unless the declared duration is unknown or within the bounds."""
        if seconds is not None and not 0 <= seconds <= self.max_duration_seconds:
            raise DurationNotAllowed(duration_seconds=seconds, max_seconds=self.max_duration_seconds)

    def check_metadata(self, metadata: dict[str, str]) -> None:
        """Raise MetadataTooLarge if the metadata takes more than 2 KB as UTF-8 encoded JSON."""
        if not metadata:
            return
        size = len(json.dumps(metadata, ensure_ascii=False).encode())
        if size > MAX_METADATA_BYTES:
            raise MetadataTooLarge(size=size, max_size=MAX_METADATA_BYTES)

    def check_redirect(self, url: str | None) -> None:
        """Raise RedirectNotAllowed unless the URL's origin is configured."""
        if url is not None and origin(url) not in self.redirect_origins:
            allowed = ", ".join(self.redirect_origins) or "none (no origin is configured)"
            raise RedirectNotAllowed(allowed=allowed)


def differences(media: Media, arrived: Arrived) -> str:
    """Return in words how the arrived object differs from the promise; empty if it does not."""
    reasons = []
    if media.promised_size is not None and arrived.size != media.promised_size:
        reasons.append(f"the size is {arrived.size} bytes, not {media.promised_size}")
    elif not MIN_SIZE <= arrived.size <= media.max_size:
        reasons.append(f"the size is {arrived.size} bytes, not {MIN_SIZE} to {media.max_size}")
    if media_type(arrived.content_type) != media.content_type:
        reasons.append(f"the type is {media_type(arrived.content_type)!r}, not {media.content_type!r}")
    if media.promised_sha256 is not None and arrived.checksum != f"SHA256:{media.promised_sha256}":
        reasons.append("the SHA-256 checksum is not the promised one")
    return "; ".join(reasons)


def composed_differences(media: Media, arrived: Arrived) -> str:
    """Return in words how the object composed of the promised parts differs; empty if it does not."""
    if media.promised_crc64nvme is not None and arrived.checksum != f"CRC64NVME:{media.promised_crc64nvme}":
        return "the CRC64NVME checksum is not the promised one"
    return ""


def _invalid(field: str, problem: str) -> RequestInvalid:
    at = f"body.{field}"
    return RequestInvalid(reason=f"{at}: {problem}", errors=[{"at": at, "problem": problem}])


def video_differences(video: Video | None, max_seconds: int) -> str:
    """Return in words why a probed video is rejected; empty if it is accepted. None means that it is not a video."""
    if video is None:
        return "it is not a video"
    if video.seconds is None:
        return "its duration cannot be determined"
    if video.seconds > max_seconds:
        return f"the duration is {video.seconds:.1f} seconds, over {max_seconds}"
    return ""
