"""The domain's errors.

The docstring of each class is the message that the client reads, filled with the facts given when it is raised.
`broker/api/problems.py` maps each class to its HTTP response.
"""

import re
from inspect import cleandoc


class BrokerError(Exception):
    """The broker could not carry out the request."""

    def __init__(self, **facts: object) -> None:
        super().__init__()
        self.facts = facts

    def __str__(self) -> str:
        return cleandoc(type(self).__doc__ or "").format(**self.facts)


# Refused before the domain's rules are consulted.


class NotAuthenticated(BrokerError):
    """The request needs a valid bearer token: {reason}."""


class PermissionMissing(BrokerError):
    """The token does not carry the permission {permission}; ask the issuer of your tokens to grant it."""


class RateLimited(BrokerError):
    """Too many requests: at most {limit} are accepted; retry in {retry_after} seconds."""


class HostInvalid(BrokerError):
    """The Host of the request is not valid: {reason}."""


class BodyTooLarge(BrokerError):
    """The request body is larger than {max_size} bytes; ask for fewer uploads, or send the file itself to S3."""


class BodyCutShort(BrokerError):
    """The request body did not arrive completely; send it again."""


class BodyTooSlow(BrokerError):
    """The request body did not arrive within {seconds:g} seconds; send it again."""


class MediaNotFound(BrokerError):
    """There is no such media, or it belongs to another owner; check its id and the owner of your token."""


# Refused by the rules, before anything is recorded.


class RequestInvalid(BrokerError):
    """The request is not valid: {reason}."""


class TypeNotAllowed(BrokerError):
    """The content type {content_type!r} is not allowed; allowed are {allowed}."""


class SizeNotAllowed(BrokerError):
    """The size of {size} bytes is not allowed; allowed are 1 to {max_size} bytes."""


class ResumableRequired(BrokerError):
    """{size} bytes are too many for one form, which takes {max_form_size} at most; issue it with resumable: true."""


class DurationNotAllowed(BrokerError):
    """The duration of {duration_seconds:g} seconds is not allowed; it may be at most {max_seconds} seconds."""


class MetadataTooLarge(BrokerError):
    """The metadata is too large: it takes {size} bytes as JSON, and at most {max_size} are allowed."""


class RedirectNotAllowed(BrokerError):
    """The origin of redirect_url is not allowed; allowed are {allowed}. The operator sets BROKER_REDIRECT_ORIGINS."""


class UploadRefused(BrokerError):
    """{reason}"""


class QuotaExceeded(BrokerError):
    """Of the quota {quota}, {used} of {limit} are in use, and the request needs {asked}; complete or delete uploads."""


class IdempotencyKeyReused(BrokerError):
    """This Idempotency-Key was used before with a different request; use a new one."""


class IdempotencyKeyInFlight(BrokerError):
    """A request with this Idempotency-Key is still in flight; retry in a moment."""


# Refused by the state of the media.


class IllegalTransition(BrokerError):
    """Event {event} is not allowed in state {state}."""


class NothingUploaded(BrokerError):
    """Nothing has been uploaded yet; upload the file, then retry."""


class PartsMissing(NothingUploaded):
    """{missing_count} of {count} parts have not arrived ({numbers}); upload them, then retry."""


class NotResumable(BrokerError):
    """The media has no parts, because it was not issued with resumable: true; send its file by its one form."""


class PromotionRunning(BrokerError):
    """The upload has arrived and is being confirmed; retry in a moment."""


class NotReady(BrokerError):
    """The media is {media_status}, not ready; complete it, retry while it is promoting, or start a new upload."""


class UploadRejected(BrokerError):
    """The upload was rejected because it is not what was promised: {differences}; start a new upload."""


class UploadExpired(BrokerError):
    """The upload has expired; start a new one, with a new Idempotency-Key."""


# Failures of the services that the broker depends on.


class StorageUnavailable(BrokerError):
    """S3 is unavailable: it cannot be reached, or its response is not valid; retry in a moment."""


class StorageRefused(BrokerError):
    """S3 refused the broker's own request ({operation}: {code}); the operator should run `broker doctor`."""


class CredentialsExpired(BrokerError):
    """The broker's S3 credentials have expired or are missing; retry, or have the operator run `broker doctor`."""


class DatabaseUnavailable(BrokerError):
    """The database is unavailable; retry in a moment."""

    @property
    def reason(self) -> str:
        """Return the class and the text of the driver's error for an operator, without the SQL statement.

        If the password in an address holds a bare @, its end becomes part of the host; so the text before an @ is
        redacted.
        """
        cause = self.__cause__ or self
        driver = getattr(cause, "orig", None) or cause
        text = re.sub(r"(?<=').*@|[^\s']*@", "[redacted]@", " ".join(str(driver).split()))
        return f"{type(driver).__name__}: {text}"


class TablesLocked(DatabaseUnavailable):
    """Another transaction, such as a backup or a migration, locks the broker's tables; let it end, then migrate."""


class ProbeFailed(BrokerError):
    """The upload could not be inspected ({cause}); retry in a moment."""


class QueueUnavailable(BrokerError):
    """The queue of S3 events is unavailable or refuses the broker ({cause}); retry in a moment."""


class KeysUnavailable(BrokerError):
    """The keys that verify tokens cannot be fetched; retry in a moment."""


class ApplicationUnavailable(BrokerError):
    """The application that decides on uploads is unavailable; retry in a moment."""


class SettingsInvalid(BrokerError):
    """{problems}"""


class DatabaseBehind(SettingsInvalid):
    """BROKER_DATABASE_URL: lacks revision {revision}; run `broker migrate` first"""


class DatabaseRefused(SettingsInvalid):
    """BROKER_DATABASE_URL: its user should own the tables, and needs the right to create them; {cause}"""


class DatabaseUnusable(SettingsInvalid):
    """BROKER_DATABASE_URL: should name a file in an existing, writable directory; {path}: {cause}"""
