"""The configuration of an embedded S3, which the parent process sends to the child."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.dev.s3.keyring import Session

PART_BYTES_MIN = 5 * 1024**2
"""S3's smallest part, but for the last one (Amazon S3 User Guide, "Amazon S3 multipart upload limits")."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Address (port 0: a free port), keys and storage of an embedded S3."""

    keys: list[tuple[str, str]]
    host: str = "127.0.0.1"
    port: int = 0
    region: str = "us-east-1"
    data_dir: Path | None = None
    durable: bool = False
    buckets: list[str] = field(default_factory=list)
    cors_origins: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    clock_offset_seconds: float = 0
    controlled: bool = False
    part_bytes_min: int = PART_BYTES_MIN

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document for `from_json`."""
        return {
            "keys": [list(pair) for pair in self.keys],
            "host": self.host,
            "port": self.port,
            "region": self.region,
            "data_dir": None if self.data_dir is None else str(self.data_dir),
            "durable": self.durable,
            "buckets": self.buckets,
            "cors_origins": self.cors_origins,
            "sessions": [session.to_json() for session in self.sessions],
            "clock_offset_seconds": self.clock_offset_seconds,
            "controlled": self.controlled,
            "part_bytes_min": self.part_bytes_min,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Configuration":
        """Return the configuration that `to_json` serialized."""
        known = dict(document)
        known["keys"] = [(access, secret) for access, secret in known["keys"]]
        known["data_dir"] = None if known["data_dir"] is None else Path(known["data_dir"])
        known["sessions"] = [Session.from_json(session) for session in known["sessions"]]
        return cls(**known)
