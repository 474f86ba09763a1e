"""The settings of the bucket, the rules, the life of a media and the database, and the function that loads them all."""

import re
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator

from broker.aws.cloudfront import Distribution
from broker.domain.access.quota import Quota
from broker.domain.parts import MAX_COMPOSED_BYTES, MAX_PART_BYTES, MIN_PART_BYTES
from broker.domain.rules import Rules, is_active, media_type
from broker.domain.s3.policy import MAX_POLICY_SECONDS
from broker.domain.s3.sigv4 import Credentials
from broker.domain.video_types import DEFAULT_TYPES
from broker.errors import SettingsInvalid
from broker.settings.environment import Variables
from broker.settings.fields import (
    CommaSeparated,
    Positive,
    bare_address,
    exact_origins,
    password_in,
    pem_text,
    require_extra,
)
from broker.settings.properties import PropertySettings

QuotaLimit = Annotated[int | None, Field(ge=0)]


class Settings(PropertySettings):
    """All settings. Sizes are bytes, durations are seconds; the docstring of a field is its description."""

    # The bucket.
    use_cloud_storage: bool = Field(default=True, validation_alias="USE_CLOUD_STORAGE")
    """Whether to use the configured bucket; `false` uses the embedded S3 of `broker dev`."""
    cloud_storage_provider: str = Field(default="aws", validation_alias="CLOUD_STORAGE_PROVIDER")
    """`aws`, or `s3` for another store that enforces POST policies, such as Ceph RGW."""
    bucket_name: str = Field(default="", validation_alias="AWS_S3_BUCKET_NAME")
    """The bucket for uploads and media."""
    region: str = Field(default="us-east-1", validation_alias="AWS_S3_REGION")
    """The bucket's region; unset: that of AWS_REGION or AWS_DEFAULT_REGION."""
    access_key_id: str | None = Field(default=None, validation_alias="AWS_ACCESS_KEY_ID")
    """The access key id. Unset: the AWS credential chain (profile, container, instance)."""
    secret_access_key: SecretStr | None = Field(default=None, validation_alias="AWS_SECRET_ACCESS_KEY")
    """The secret access key."""
    session_token: SecretStr | None = Field(default=None, validation_alias="AWS_SESSION_TOKEN")
    """The session token of temporary credentials."""
    credential_expiration: datetime | None = Field(default=None, validation_alias="AWS_CREDENTIAL_EXPIRATION")
    """The expiry of temporary credentials; it bounds the lifetime that forms and links claim."""
    s3_endpoint_url: str | None = None
    """The S3 endpoint of the broker itself, for stores other than AWS."""
    s3_public_endpoint_url: str | None = None
    """The S3 endpoint of clients, if it differs; forms and links are signed for it."""
    s3_path_style: bool = False
    """Whether URLs are `https://host/bucket/key` instead of `https://bucket.host/key`."""
    s3_dual_stack: bool = False
    """Whether to use AWS's endpoints for IPv4 and IPv6."""
    s3_fips: bool = False
    """Whether to use AWS's FIPS endpoints."""
    s3_timeout_seconds: float = Field(default=10, gt=0)
    """The timeout of one attempt of a call to S3; a call is tried up to three times."""
    s3_pool_size: Positive = 256
    """The maximum number of concurrent calls to S3 in one process; copies take at most three quarters of them."""

    cloudfront_url: str | None = None
    """The URL of a CloudFront distribution in front of the bucket, such as `https://media.example`, for links."""
    cloudfront_key_id: str | None = None
    """The id of the public key with which CloudFront checks links (`Key-Pair-Id`)."""
    cloudfront_private_key: SecretStr | None = None
    """The RSA private key of that pair in PEM form, or the path of its file."""

    # The rules of uploads.
    max_file_size: Annotated[int, Field(ge=1, le=MAX_COMPOSED_BYTES)] = Field(
        default=100_000_000, validation_alias="MAX_FILE_SIZE"
    )
    """The maximum size of an upload. Above 5 GiB, the most that S3 accepts in one POST, uploads must be resumable."""
    part_size: Annotated[int, Field(ge=MIN_PART_BYTES, le=MAX_PART_BYTES)] = 16 * 1024**2
    """The size of the parts of a resumable upload; it grows for files of more than 1,000 parts."""
    max_video_duration_seconds: Positive = Field(default=300, validation_alias="MAX_VIDEO_DURATION_SECONDS")
    """The maximum declared duration."""
    allowed_types: CommaSeparated = DEFAULT_TYPES
    """The allowed content types, comma-separated."""
    allow_active_types: bool = False
    """Whether BROKER_ALLOWED_TYPES may name types that browsers run (HTML, SVG, XML, scripts); links download them."""
    redirect_origins: CommaSeparated = ()
    """The allowed origins of a form's `redirect_url`, comma-separated."""
    quota_pending_count: QuotaLimit = None
    """The maximum number of open uploads per owner."""
    quota_promised_bytes: QuotaLimit = None
    """The maximum number of bytes of one owner's open uploads."""
    quota_stored_bytes: QuotaLimit = None
    """The maximum number of stored and promised bytes per owner."""
    quota_media_count: QuotaLimit = None
    """The maximum number of media per owner."""

    # The life of a media.
    policy_seconds: Annotated[int, Field(ge=1, le=MAX_POLICY_SECONDS)] = 900
    """The lifetime of a policy: how long after it was issued an upload may begin."""
    grace_seconds: Annotated[int, Field(ge=0)] = 900
    """How long after the policy's expiry an upload that began in time may still arrive."""
    resumable_seconds: Annotated[int, Field(ge=60, le=7 * 86_400)] = 86_400
    """How long a resumable upload may take, from its issue to its last policy; less than Terraform's `staging_days`."""
    sweep: bool = False
    """Whether `broker serve` runs the background jobs too; otherwise `broker worker` does."""
    sweep_seconds: Annotated[float, Field(gt=0)] = 15
    """The pause of the sweep when nothing is due."""

    # The database.
    database_url: str = "sqlite:///broker.db"
    """The database: `sqlite:///file` or `postgresql://…`."""
    database_schema: str | None = None
    """The schema of the broker's tables, which `broker migrate` creates; unset: the user's default (PostgreSQL)."""
    database_pool_size: Positive = 5
    """The maximum number of connections of one process (PostgreSQL)."""
    database_timeout_seconds: float = Field(default=5, gt=0)
    """The timeout for a connection, a lock or a statement."""

    # The server.
    host: str = "127.0.0.1"
    """The address on which `broker serve` listens, unless `--host` names another."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port on which it listens, unless `--port` names another; 0: a free one."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""

    @field_validator("cloud_storage_provider")
    @classmethod
    def _provider_takes_policies(cls, value: str) -> str:
        if value.lower() in {"r2", "b2", "cloudflare", "backblaze"}:
            raise ValueError("should be a store that supports POST policies; this one answers them with 501")
        if value.lower() not in {"aws", "s3"}:
            raise ValueError("should be aws, or s3 for another store")
        return value.lower()

    @field_validator("allowed_types")
    @classmethod
    def _types_are_media_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(media_type(name) != name or name.count("/") != 1 or "*" in name for name in value):
            raise ValueError("should be full types in lower case, such as video/mp4,video/webm")
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
        parts = [info.data.get("cloudfront_url"), info.data.get("cloudfront_key_id"), value]
        if any(parts) and not all(parts):
            raise ValueError("should be set together with BROKER_CLOUDFRONT_URL and BROKER_CLOUDFRONT_KEY_ID")
        if value is None:
            return None
        try:
            pem = pem_text(value.get_secret_value())
            Distribution("https://media.example", "key", pem)
        except (OSError, TypeError, ValueError):
            raise ValueError("should be an RSA private key in PEM form, or the path of its file") from None
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

    @field_validator("database_schema")
    @classmethod
    def _schema_is_a_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if str(info.data.get("database_url", "")).startswith("sqlite"):
            raise ValueError("should be unset with SQLite, which has no schemas")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value) or value.lower().startswith("pg_"):
            raise ValueError("should be a name of letters, digits and _, such as broker")
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
        if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", value):
            raise ValueError("should be the name of a bucket; of an access point give the alias, not the ARN")
        return value

    @field_validator("region")
    @classmethod
    def _region_is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9-]+", value):
            raise ValueError("should be a region's name, such as eu-central-1")
        return value

    @field_validator("secret_access_key")
    @classmethod
    def _keys_come_in_pairs(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("access_key_id") is None):
            raise ValueError("should be set if and only if AWS_ACCESS_KEY_ID is set")
        return value

    def secrets(self) -> list[str]:
        """Return every secret of this deployment, so that logs can redact them."""
        values = (getattr(self, name) for name in type(self).model_fields)
        database_password = password_in(self.database_url)
        passwords = [database_password, unquote(database_password)]
        listed = chain.from_iterable(value if isinstance(value, tuple) else (value,) for value in values)
        return [value.get_secret_value() for value in listed if isinstance(value, SecretStr)] + passwords

    @property
    def credentials(self) -> Credentials | None:
        """Return the configured keys, or None for the AWS credential chain."""
        if self.access_key_id is None or self.secret_access_key is None:
            return None
        token = self.session_token.get_secret_value() if self.session_token else None
        return Credentials(
            self.access_key_id, self.secret_access_key.get_secret_value(), token, self.credential_expiration
        )

    @property
    def cloudfront(self) -> tuple[str, str, str] | None:
        """Return the distribution's URL, key id and private key, or None if links do not go through CloudFront."""
        if self.cloudfront_url is None or self.cloudfront_key_id is None or self.cloudfront_private_key is None:
            return None
        return self.cloudfront_url, self.cloudfront_key_id, self.cloudfront_private_key.get_secret_value()

    @property
    def rules(self) -> Rules:
        """Return the rules of uploads."""
        return Rules(
            types=self.allowed_types,
            max_size=self.max_file_size,
            max_duration_seconds=self.max_video_duration_seconds,
            part_size=self.part_size,
            redirect_origins=self.redirect_origins,
        )

    @property
    def quota(self) -> Quota:
        """Return the quota of each owner."""
        return Quota(
            self.quota_pending_count, self.quota_promised_bytes, self.quota_stored_bytes, self.quota_media_count
        )


def load_settings(env_file: Path | None = Path(".env"), **overrides: object) -> Settings:
    """Return the settings from `overrides` (by field name), then the environment, then `env_file`.

    Raises SettingsInvalid, which names each wrong or missing setting and the expected form, but no value.
    """
    variables = Variables(env_file)
    fields = {environment_name(field): field for field in Settings.model_fields if field not in overrides}
    values = {fields[name]: value for name, value in variables.named(fields).items()}
    try:
        settings = Settings(**values, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [_problem(detail["loc"], detail["msg"]) for detail in error.errors(include_input=False)]
        raise SettingsInvalid(problems="\n".join(variables.problems + problems)) from None
    if variables.problems:
        raise SettingsInvalid(problems="\n".join(variables.problems))
    return settings


def load_database_settings() -> Settings:
    """Return the settings of the database. A migration needs no bucket, no secret and no key, so none need be set."""
    return load_settings(
        use_cloud_storage=False,
        secret_key=token_urlsafe(64),
        **dict.fromkeys(("jwt_algorithm", "jwks_url", "jwt_public_key")),
        **dict.fromkeys(("cloudfront_url", "cloudfront_key_id", "cloudfront_private_key")),
    )


def _problem(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{environment_name(str(location[0]))}: {message}" if location else message


def environment_name(field: str) -> str:
    """Return the environment variable of a field, such as `BROKER_POLICY_SECONDS`."""
    info = Settings.model_fields.get(field)
    if info is None:
        return field
    return str(info.validation_alias or f"BROKER_{field.upper()}")
