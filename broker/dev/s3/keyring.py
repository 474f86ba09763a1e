"""The keys that may sign: those of long-lived users, and of sessions that STS handed out."""

import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from string import ascii_letters, digits
from typing import Any

from broker.dev.s3.clock import Clock
from broker.dev.s3.errors import S3Error
from broker.domain.s3.sigv4 import same_signature

_KEY_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_KEY = re.compile(r"(?P<id>[A-Za-z0-9_]{3,128}):(?P<secret>[A-Za-z0-9/+=_.~][A-Za-z0-9/+=_.~-]{7,127})")


def random_key() -> tuple[str, str]:
    """Return a key id of 20 and a secret of 40 letters and digits, as AWS's are.

    Without further characters, which AWS's secrets may have, no secret needs quotes or looks like an option.
    """
    key_id = "AKIA" + "".join(secrets.choice(_KEY_ID_LETTERS) for _ in range(16))
    return key_id, "".join(secrets.choice(ascii_letters + digits) for _ in range(40))


def read_keys(text: str) -> list[tuple[str, str]]:
    """Read the keys of several users, such as `ID:SECRET,ID:SECRET`; an empty text holds none.

    Raises ValueError for a malformed key and for a key id that is there twice. The message names no secret.
    """
    keys: dict[str, str] = {}
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        key = _KEY.fullmatch(part)
        if key is None:
            raise ValueError(
                f"key {number} must be ID:SECRET: an id of 3 to 128 letters, digits and underscores, and a secret of 8 "
                "to 128 characters of A-Z a-z 0-9 / + = _ . ~ - that does not begin with a hyphen"
            )
        if key["id"] in keys:
            raise ValueError(f"the key id {key['id']} is there twice: each user needs an id of its own")
        keys[key["id"]] = key["secret"]
    return list(keys.items())


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials, as STS hands them out."""

    access_key: str
    secret_key: str
    token: str
    expires_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document for `from_json`."""
        return asdict(self) | {"expires_at": self.expires_at.isoformat()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Session":
        """Return the session that `to_json` serialized."""
        return cls(**(document | {"expires_at": datetime.fromisoformat(document["expires_at"])}))


class Keyring:
    """All keys that S3 accepts."""

    def __init__(self, keys: Iterable[tuple[str, str]], sessions: Iterable[Session], clock: Clock) -> None:
        self._secrets = dict(keys)
        self._sessions = {session.access_key: session for session in sessions}
        self._clock = clock

    def add(self, session: Session) -> None:
        """Accept signatures of this session too."""
        self._sessions[session.access_key] = session

    def secret(self, access_key: str, token: str | None) -> str:
        """Return the secret that belongs to a key.

        Refuses an unknown key, a session's key without its token, a wrong token, and an expired session.
        """
        if (session := self._sessions.get(access_key)) is not None:
            if token is None:
                raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key)
            if not same_signature(token, session.token):
                raise S3Error("InvalidToken", Token_0=token)
            if self._clock.now() >= session.expires_at:
                raise S3Error("ExpiredToken", Token_0=token)
            return session.secret_key
        if (secret := self._secrets.get(access_key)) is None:
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key)
        if token is not None:
            raise S3Error("InvalidToken", Token_0=token)
        return secret

    def learn(self, answer: str) -> None:
        """Accept the session that an answer of STS (XML) hands out."""
        fields = {
            name: match.group(1)
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
            if (match := re.search(rf"<{name}>([^<]+)</{name}>", answer))
        }
        if len(fields) == 4:
            expires_at = datetime.fromisoformat(fields["Expiration"])
            self.add(Session(fields["AccessKeyId"], fields["SecretAccessKey"], fields["SessionToken"], expires_at))
