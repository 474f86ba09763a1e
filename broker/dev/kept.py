"""The secret, the S3's key and the S3's port of a data directory, kept so that uploads and tokens outlive a restart."""

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from broker.dev.s3 import random_key

FILE = "kept.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """The values of one data directory; new ones until they are read."""

    secret: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    key: tuple[str, str] = field(default_factory=random_key, repr=False)
    """The S3's key id and its secret."""
    s3_port: int = 0
    """0 before the first run: any free port."""

    def write(self, data_dir: Path) -> None:
        """Write the values to a file that only its owner can read."""
        data_dir.mkdir(parents=True, exist_ok=True)
        fresh = data_dir / f"{FILE}.new"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            json.dump(asdict(self), file)
        fresh.replace(data_dir / FILE)


def kept_in(data_dir: Path) -> Kept:
    """Return the values of a data directory; new ones, which are kept, if it has none that can be read."""
    with suppress(OSError, ValueError, TypeError, LookupError):
        values = json.loads((data_dir / FILE).read_text("ascii"))
        return Kept(values["secret"], tuple(values["key"]), values["s3_port"])
    fresh = Kept()
    fresh.write(data_dir)
    return fresh


def free_port(host: str, wanted: int) -> int:
    """Return `wanted` if nothing listens on it, or 0: any free port."""
    try:
        socket.create_server((host, wanted)).close()
    except OSError:
        return 0
    return wanted
