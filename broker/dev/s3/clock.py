"""The server's clock, which a test may move, and the formats of instants."""

from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that is `offset_seconds` ahead of the machine's."""

    def __init__(self, offset_seconds: float = 0) -> None:
        self.offset_seconds = offset_seconds

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.offset_seconds)


def iso8601(instant: datetime) -> str:
    """Write an instant as S3's documents do: whole seconds, such as `2026-01-31T12:00:00.000Z`."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def iso8601_seconds(instant: datetime) -> str:
    """Write an instant as S3's errors do, such as `2026-01-31T12:00:00Z`."""
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def iso8601_milliseconds(instant: datetime) -> str:
    """Write an instant as S3's events do, such as `2026-01-31T12:00:00.123Z`."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"


def http_date(instant: datetime) -> str:
    """Write an instant as an HTTP header does (RFC 9110 section 5.6.7)."""
    return instant.strftime("%a, %d %b %Y %H:%M:%S GMT")
