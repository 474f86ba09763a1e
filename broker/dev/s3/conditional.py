"""Conditional requests: on a read, on the source of a copy, and on what a write replaces.

Source: RFC 9110 section 13; Amazon S3 User Guide, "Conditional requests".
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from broker.dev.s3.clock import http_date
from broker.dev.s3.errors import S3Error
from broker.dev.s3.objects import ObjectVersion


def check_read(headers: Mapping[str, str], version: ObjectVersion, now: datetime) -> None:
    """Refuse a GET or HEAD whose conditions do not hold: 412, or 304 if the client has the object already."""
    if (wanted := headers.get("if-match")) is not None:
        if not _matches(wanted, version.etag):
            raise _failed("If-Match")
    elif _is_before(headers.get("if-unmodified-since"), version):
        raise _failed("If-Unmodified-Since")
    if (known := headers.get("if-none-match")) is not None:
        unchanged = _matches(known, version.etag)
    else:
        unchanged = _is_unmodified(headers.get("if-modified-since"), version, now)
    if unchanged:
        raise NotModifiedError(version)


def check_copy_source(headers: Mapping[str, str], version: ObjectVersion, now: datetime) -> None:
    """Refuse a copy, 412, unless its `x-amz-copy-source-if-*` conditions hold."""
    prefix = "x-amz-copy-source-"
    if (wanted := headers.get(f"{prefix}if-match")) is not None:
        if not _matches(wanted, version.etag):
            raise _failed(f"{prefix}If-Match")
    elif _is_before(headers.get(f"{prefix}if-unmodified-since"), version):
        raise _failed(f"{prefix}If-Unmodified-Since")
    if (unwanted := headers.get(f"{prefix}if-none-match")) is not None:
        if _matches(unwanted, version.etag):
            raise _failed(f"{prefix}If-None-Match")
    elif _is_unmodified(headers.get(f"{prefix}if-modified-since"), version, now):
        raise _failed(f"{prefix}If-Modified-Since")


def check_write(headers: Mapping[str, str], current: ObjectVersion | None, key: str) -> None:
    """Refuse a write unless its `If-Match` or `If-None-Match: *` holds for the object that is there now."""
    wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
    if wanted is not None and unwanted is not None:
        raise _unserved("If-Match,If-None-Match", "Multiple conditional request headers present in the request")
    if wanted is not None:
        if wanted == "*":
            raise _unaccepted_value("If-Match")
        check_match(wanted, current, key)
    if unwanted is not None:
        if unwanted != "*":
            raise _unaccepted_value("If-None-Match")
        if current is not None:
            raise _failed("If-None-Match")


def check_delete(headers: Mapping[str, str], current: ObjectVersion | None, key: str) -> None:
    """Refuse a delete unless `If-Match` holds; S3 offers the other conditions in directory buckets alone."""
    for name in ("x-amz-if-match-last-modified-time", "x-amz-if-match-size"):
        if name in headers:
            raise S3Error("NotImplemented", Header=name)
    if (wanted := headers.get("if-match")) is not None:
        check_match(wanted, current, key)


def check_match(wanted: str, current: ObjectVersion | None, key: str) -> None:
    """Refuse unless an `If-Match` names the object that is there now."""
    if current is None:
        raise S3Error("NoSuchKey", Key=key)
    if not _matches(wanted, current.etag):
        raise _failed("If-Match")


class NotModifiedError(S3Error):
    """304: the client's copy is still the object."""

    def __init__(self, version: ObjectVersion) -> None:
        headers = {"ETag": f'"{version.etag}"', "Last-Modified": http_date(version.modified)}
        super().__init__("NotModified", status=304, headers=headers)


def _unserved(header: str, reason: str) -> S3Error:
    return S3Error("NotImplemented", Header=header, additionalMessage=reason)


def _unaccepted_value(header: str) -> S3Error:
    return _unserved(header, f"We don't accept the provided value of {header} header for this API")


def _failed(condition: str) -> S3Error:
    return S3Error("PreconditionFailed", Condition=condition)


def _matches(header: str, etag: str) -> bool:
    return any(tag.strip().strip('"') in ("*", etag) for tag in header.split(","))


def _is_before(header: str | None, version: ObjectVersion) -> bool:
    limit = _date(header)
    return limit is not None and version.modified.replace(microsecond=0) > limit


def _is_unmodified(header: str | None, version: ObjectVersion, now: datetime) -> bool:
    """Return whether a version is older than a date; a date in the future does not count."""
    since = _date(header)
    return since is not None and version.modified.replace(microsecond=0) <= since <= now


def _date(header: str | None) -> datetime | None:
    try:
        date = None if header is None else parsedate_to_datetime(header)
    except ValueError:
        return None
    # The parser returns a date whose zone is "-0000" without a zone; it is UTC.
    return date if date is None or date.tzinfo else date.replace(tzinfo=UTC)
