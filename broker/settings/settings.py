"""The settings: the environment and a `.env` file, read once, validated at once, frozen.

The only module that reads the environment.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator

from broker.aws.cloudfront import Distribution
from broker.domain.policy import MAX_POLICY_SECONDS
from broker.domain.quota import Quota
from broker.domain.rules import DEFAULT_TYPES, MAX_OBJECT_BYTES, Rules, is_active, media_type
from broker.domain.sigv4 import Credentials
from broker.errors import SettingsInvalid
from broker.settings.fields import CommaSeparated, Positive, bare_address, exact_origins, require_extra
from broker.settings.worker import WorkerSettings

Limit = Annotated[int | None, Field(ge=0)]


class Settings(WorkerSettings):
    """Hold every setting. Sizes are bytes, durations seconds; the docstring of a field says what it does."""

    # The bucket.
    use_cloud_storage: bool = Field(default=True, validation_alias="USE_CLOUD_STORAGE")
    """false: the embedded S3 of `broker dev`."""
    cloud_storage_provider: str = Field(default="aws", validation_alias="CLOUD_STORAGE_PROVIDER")
    """`aws`, or `s3` for another store that enforces POST policies, such as Ceph RGW."""
    bucket_name: str = Field(default="", validation_alias="AWS_S3_BUCKET_NAME")
    """The bucket that takes the uploads and keeps the media."""
    region: str = Field(default="us-east-1", validation_alias="AWS_S3_REGION", pattern=r"^[a-z0-9-]+$")
    """The bucket's region."""
    access_key_id: str | None = Field(default=None, validation_alias="AWS_ACCESS_KEY_ID")
    """Unset: the ordinary AWS credential chain (profile, container, instance)."""
    secret_access_key: SecretStr | None = Field(default=None, validation_alias="AWS_SECRET_ACCESS_KEY")
    """Belongs to AWS_ACCESS_KEY_ID."""
    session_token: SecretStr | None = Field(default=None, validation_alias="AWS_SESSION_TOKEN")
    """Of temporary credentials."""
    credential_expiration: datetime | None = Field(default=None, validation_alias="AWS_CREDENTIAL_EXPIRATION")
    """When temporary credentials end; no signature is said to live longer."""
    s3_endpoint_url: str | None = None
    """Where the broker itself talks to S3, for stores other than AWS."""
    s3_public_endpoint_url: str | None = None
    """Where clients talk to S3, when that differs; signatures are made for this address."""
    s3_path_style: bool = False
    """true: `https://host/bucket/key` instead of `https://bucket.host/key`."""
    s3_dual_stack: bool = False
    """true: AWS's endpoints for IPv4 and IPv6."""
    s3_fips: bool = False
    """true: AWS's FIPS endpoints."""
    s3_timeout_seconds: float = Field(default=10, gt=0)
    """How long S3 may take to answer; a call to it is tried up to three times, each for as long."""
    s3_pool_size: Positive = 32
    """How many calls to S3 one process has under way at most."""

    cloudfront_url: str | None = None
    """The address of a CloudFront distribution in front of the bucket, such as `https://media.example`, for links."""
    cloudfront_key_id: str | None = None
    """The id of the public key by which CloudFront checks links (`Key-Pair-Id`)."""
    cloudfront_private_key: SecretStr | None = None
    """The RSA private key of that pair in PEM form, or the path of its file."""

    # What is accepted.
    max_file_size: Annotated[int, Field(ge=1, le=MAX_OBJECT_BYTES)] = Field(
        default=100_000_000, validation_alias="MAX_FILE_SIZE"
    )
    """The largest upload; S3 takes at most 5 GiB in one POST."""
    max_video_duration_seconds: Positive = Field(default=300, validation_alias="MAX_VIDEO_DURATION_SECONDS")
    """The longest declared duration."""
    allowed_types: CommaSeparated = DEFAULT_TYPES
    """The accepted content types, comma-separated."""
    allow_active_types: bool = False
    """true: BROKER_ALLOWED_TYPES may name types that browsers run (HTML, SVG, XML, scripts); links download them."""
    redirect_origins: CommaSeparated = ()
    """The origins that a form's `redirect_url` may have, comma-separated."""
    quota_pending_count: Limit = None
    """How many uploads of one owner may be open at a time."""
    quota_promised_bytes: Limit = None
    """How many bytes the open uploads of one owner may hold together."""
    quota_stored_bytes: Limit = None
    """How many bytes one owner may store and have promised together."""
    quota_media_count: Limit = None
    """How many media one owner may have."""

    # The life of a media.
    policy_seconds: Annotated[int, Field(ge=1, le=MAX_POLICY_SECONDS)] = 900
    """How long an upload may begin after it was issued."""
    grace_seconds: Annotated[int, Field(ge=0)] = 900
    """How long after its policy's end an upload that had begun may still arrive."""
    sweep: bool = False
    """true: `broker serve` sweeps too; otherwise `broker worker` does."""
    sweep_seconds: Annotated[float, Field(gt=0)] = 15
    """How long the sweep rests when nothing is due."""

    # Where records are kept.
    database_url: str = "sqlite:///broker.db"
    """`sqlite:///file` or `postgresql://…`."""
    database_pool_size: Positive = 5
    """How many connections one process opens at most (PostgreSQL)."""
    database_timeout_seconds: float = Field(default=5, gt=0)
    """How long to wait for a connection, a lock or a statement."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""

    @field_validator("cloud_storage_provider")
    @classmethod
    def _provider_takes_policies(cls, value: str) -> str:
        if value.lower() in {"r2", "b2", "cloudflare", "backblaze"}:
            raise ValueError("should be a store that takes POST policies; this one answers them with 501")
        if value.lower() not in {"aws", "s3"}:
            raise ValueError("should be aws, or s3 for another store")
        return value.lower()

    @field_validator("allowed_types")
    @classmethod
    def _types_are_media_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(media_type(name) != name or name.count("/") != 1 for name in value):
            raise ValueError("should be media types in lower case, such as video/mp4,video/webm")
        return value

    @model_validator(mode="after")
    def _active_types_are_meant(self) -> "Settings":
        active = [name for name in self.allowed_types if is_active(name)]
        if active and not self.allow_active_types:
            raise ValueError(
                f"BROKER_ALLOW_ACTIVE_TYPES: should be true for BROKER_ALLOWED_TYPES to name {', '.join(active)}"
            )
        return self

    @field_validator("redirect_origins")
    @classmethod
    def _redirect_origins_are_exact(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return exact_origins(value)

    @field_validator("cloudfront_private_key")
    @classmethod
    def _cloudfront_is_whole(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        named = [info.data.get("cloudfront_url"), info.data.get("cloudfront_key_id"), value]
        if any(named) and not all(named):
            raise ValueError("should be set together with BROKER_CLOUDFRONT_URL and BROKER_CLOUDFRONT_KEY_ID")
        if value is None:
            return None
        try:
            written = value.get_secret_value()
            pem = written if written.lstrip().startswith("-----BEGIN") else Path(written).read_text()
            Distribution("https://media.example", "key", pem)
        except (OSError, TypeError, ValueError):
            raise ValueError("should be an RSA private key in PEM form, or the path of a file that holds one") from None
        return SecretStr(pem)

    @field_validator("s3_endpoint_url", "cloudfront_url", "s3_public_endpoint_url")
    @classmethod
    def _endpoint_is_bare(cls, value: str | None) -> str | None:
        return bare_address(value)

    @field_validator("database_url")
    @classmethod
    def _database_is_supported(cls, value: str) -> str:
        if not re.match(r"sqlite:///.|postgres(ql)?(\+psycopg)?://.", value):
            raise ValueError("should be sqlite:///file or postgresql://user@host/name")
        if value.startswith("postgres"):
            require_extra("postgres", package="psycopg")
        return value

    @field_validator("credential_expiration")
    @classmethod
    def _instant_is_aware(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @field_validator("bucket_name")
    @classmethod
    def _bucket_is_named(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("use_cloud_storage", True):
            raise ValueError("should be the name of the bucket (or set USE_CLOUD_STORAGE=false)")
        return value

    @field_validator("secret_access_key")
    @classmethod
    def _keys_come_in_pairs(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("access_key_id") is None):
            raise ValueError("should be set together with AWS_ACCESS_KEY_ID, or neither of them")
        return value

    def secrets(self) -> list[str]:
        """Return every secret of this deployment, so that no log line holds one."""
        held = (getattr(self, name) for name in type(self).model_fields)
        database_password = urlsplit(self.database_url).password or ""
        passwords = [database_password, unquote(database_password)]
        return [one.get_secret_value() for one in held if isinstance(one, SecretStr)] + passwords

    @property
    def credentials(self) -> Credentials | None:
        """Return the keys that were set, or None for the ordinary AWS credential chain."""
        if self.access_key_id is None or self.secret_access_key is None:
            return None
        token = self.session_token.get_secret_value() if self.session_token else None
        return Credentials(
            self.access_key_id, self.secret_access_key.get_secret_value(), token, self.credential_expiration
        )

    @property
    def cloudfront(self) -> tuple[str, str, str] | None:
        """Return the distribution's address, its key's id and the private key, where links go through CloudFront."""
        if self.cloudfront_url is None or self.cloudfront_key_id is None or self.cloudfront_private_key is None:
            return None
        return self.cloudfront_url, self.cloudfront_key_id, self.cloudfront_private_key.get_secret_value()

    @property
    def rules(self) -> Rules:
        """Return what is accepted."""
        return Rules(
            types=self.allowed_types,
            max_size=self.max_file_size,
            max_duration_seconds=self.max_video_duration_seconds,
            redirect_origins=self.redirect_origins,
        )

    @property
    def quota(self) -> Quota:
        """Return what one owner may hold."""
        return Quota(
            self.quota_pending_count, self.quota_promised_bytes, self.quota_stored_bytes, self.quota_media_count
        )


def load_settings(env_file: Path | None = Path(".env"), **overrides: object) -> Settings:
    """Read the environment over `env_file`; `overrides`, by field name, win over both.

    Raises SettingsInvalid, which names each wrong or missing setting and what it should be, but no value.
    """
    try:
        return Settings(_env_file=env_file, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [_problem(one["loc"], one["msg"]) for one in error.errors(include_input=False)]
        raise SettingsInvalid(problems="\n".join(problems)) from None


def _problem(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{environment_name(str(location[0]))}: {message}" if location else message


def environment_name(field: str) -> str:
    """Return the environment variable that sets a field, such as `BROKER_POLICY_SECONDS`."""
    info = Settings.model_fields.get(field)
    if info is None:
        return field
    return str(info.validation_alias or f"BROKER_{field.upper()}")
