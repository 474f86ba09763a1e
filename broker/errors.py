"""What can go wrong, in the words of the domain.

The docstring of each class is the message that the caller reads, filled with the facts given when it is raised.
How each becomes an HTTP answer stands in `broker/api/problems.py`.
"""

import re
from inspect import cleandoc


class BrokerError(Exception):
    """The broker could not do what was asked."""

    def __init__(self, **facts: object) -> None:
        super().__init__()
        self.facts = facts

    def __str__(self) -> str:
        return cleandoc(type(self).__doc__ or "").format(**self.facts)


# What a caller may not have.


class NotAuthenticated(BrokerError):
    """The request needs a valid bearer token: {reason}."""


class PermissionMissing(BrokerError):
    """The token does not carry the permission {permission}."""


class RateLimited(BrokerError):
    """Too many requests: at most {limit} are accepted; ask again in {retry_after} seconds."""


class BodyTooLarge(BrokerError):
    """The body of a request may hold at most {max_size} bytes."""


class BodyCutShort(BrokerError):
    """The body did not arrive whole."""


class BodyTooSlow(BrokerError):
    """The body of the request did not arrive within {seconds:g} seconds."""


class MediaNotFound(BrokerError):
    """There is no such media."""


# What the rules refuse, before anything is recorded.


class RequestInvalid(BrokerError):
    """The request is not valid: {reason}."""


class TypeNotAllowed(BrokerError):
    """The content type {content_type!r} is not accepted; accepted are {allowed}."""


class SizeNotAllowed(BrokerError):
    """The size of {size} bytes is not accepted; accepted are 1 to {max_size} bytes."""


class DurationNotAllowed(BrokerError):
    """The duration of {duration_seconds:g} seconds is not accepted; it may be at most {max_seconds} seconds."""


class MetadataTooLarge(BrokerError):
    """The metadata takes {size} bytes as JSON; at most {max_size} are accepted."""


class RedirectNotAllowed(BrokerError):
    """The origin of redirect_url is not accepted; accepted are {allowed}."""


class QuotaExceeded(BrokerError):
    """The quota of {limit} for {quota} would be exceeded: {used} are in use, {asked} more were asked for."""


class IdempotencyKeyReused(BrokerError):
    """This Idempotency-Key was used before with a different request."""


class IdempotencyKeyInFlight(BrokerError):
    """A request with this Idempotency-Key is still being handled; ask again in a moment."""


# What the life of a media refuses.


class IllegalTransition(BrokerError):
    """A media that is {state} knows no event {event}."""


class NothingUploaded(BrokerError):
    """Nothing has been uploaded yet; upload first, then ask again."""


class PromotionRunning(BrokerError):
    """The upload has arrived and is being confirmed; ask again in a moment."""


class NotReady(BrokerError):
    """The media is {media_status}, not ready."""


class UploadRejected(BrokerError):
    """What arrived is not what was promised: {differences}."""


class UploadExpired(BrokerError):
    """The upload has ended; ask for a new one, under a new Idempotency-Key."""


# What is away.


class StorageUnavailable(BrokerError):
    """S3 cannot be reached or does not answer as it should; ask again in a moment."""


class StorageRefused(BrokerError):
    """S3 refused the broker's own request ({operation}: {code}); the operator must look at its rights and bucket."""


class CredentialsExpired(BrokerError):
    """The broker's own credentials for S3 have ended or are missing; ask again in a moment."""


class DatabaseUnavailable(BrokerError):
    """The database cannot be reached; ask again in a moment."""

    @property
    def reason(self) -> str:
        """Return the class and the text of the driver's error, for an operator, without the statement that was run.

        A password with a bare @ in an address makes its end a part of the host, so what stands before an @ is left out.
        """
        cause = self.__cause__ or self
        driver = getattr(cause, "orig", None) or cause
        text = re.sub(r"(?<=').*@|[^\s']*@", "[redacted]@", " ".join(str(driver).split()))
        return f"{type(driver).__name__}: {text}"


class ProbeFailed(BrokerError):
    """The upload could not be looked into ({cause}); ask again in a moment."""


class QueueUnavailable(BrokerError):
    """The queue of S3's events cannot be reached or refuses the broker ({cause}); ask again in a moment."""


class KeysUnavailable(BrokerError):
    """The keys that verify tokens cannot be fetched; ask again in a moment."""


class SettingsInvalid(BrokerError):
    """{problems}"""


class DatabaseUnusable(SettingsInvalid):
    """BROKER_DATABASE_URL: should name a file in a directory that is there and may be written; {path}: {cause}"""
