"""`broker init`: a first `.env`, and what a deployment still lacks."""

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from broker.aws.endpoint import bucket_url
from broker.domain.access.jws import SECRET_BYTES
from broker.errors import SettingsInvalid
from broker.settings import Settings, environment_name, load_settings

ENV_FILE = Path(".env")
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Amazon S3 User Guide, "General purpose bucket naming rules"."""
_BARE = re.compile(r"[\w@%+=:,./?&~-]*")
"""A value that python-dotenv, systemd and Docker all read unchanged, without quotes."""


def refuse_existing(file: Path = ENV_FILE) -> None:
    """Raise SettingsInvalid if `file` exists, even as a dangling link."""
    if os.path.lexists(file):
        raise SettingsInvalid(
            problems=f"{file}: exists already, and is left unchanged; edit it, or move it away and try again"
        )


def bucket_name(value: str) -> str:
    """Return `value` if a bucket can have this name. Raises SettingsInvalid."""
    if not BUCKET_NAME.fullmatch(value):
        raise SettingsInvalid(
            problems=f"--bucket: {value!r} should be 3 to 63 lower-case letters, digits, dots and hyphens"
        )
    return value


def first_values(
    *, bucket: str, region: str, endpoint_url: str | None, database_url: str | None, origins: tuple[str, ...]
) -> dict[str, str]:
    """Return the variables of a first `.env`, with a new secret. The broker sweeps by itself on SQLite.

    Raises SettingsInvalid for each value that is refused at a start too.
    """
    fields = {"bucket_name": bucket_name(bucket), "region": region}
    if endpoint_url is not None:
        fields |= {"cloud_storage_provider": "s3", "s3_endpoint_url": endpoint_url, "s3_path_style": "true"}
    if database_url is not None:
        fields["database_url"] = database_url
    if origins:
        fields["cors_origins"] = ",".join(origins)
    settings = load_settings(env_file=None, use_cloud_storage=True, secret_key=secrets.token_urlsafe(48), **fields)
    bucket_url(
        settings.bucket_name,
        region=settings.region,
        endpoint_url=settings.s3_endpoint_url,
        path_style=settings.s3_path_style,
        dual_stack=settings.s3_dual_stack,
        fips=settings.s3_fips,
    )
    fields["secret_key"] = settings.secret_key.get_secret_value()
    if settings.database_url.startswith("sqlite"):
        fields |= {"database_url": settings.database_url, "sweep": "true"}
    return {environment_name(name): value for name, value in fields.items()}


def write(values: dict[str, str], file: Path = ENV_FILE) -> None:
    """Create `file` with the variables, readable by its owner alone. Raises SettingsInvalid if it cannot be created."""
    unfit = [name for name, value in values.items() if not _BARE.fullmatch(value)]
    if unfit:
        raise SettingsInvalid(problems="\n".join(f"{name}: should have no spaces, quotes, # or $" for name in unfit))
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsInvalid(problems=f"{file}: cannot be created: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)


def missing(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what a deployment with these settings still lacks, as a name and what to do about it."""
    if settings.access_key_id is None:
        yield (
            "keys",
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, so the AWS credential chain gives them: a "
            "profile, a container's or an instance's role.",
        )
    if settings.database_url.startswith("sqlite"):
        yield (
            "database",
            "SQLite serves one process, which also runs the background jobs. For several processes set "
            "BROKER_DATABASE_URL=postgresql://USER:PASSWORD@HOST/NAME, remove BROKER_SWEEP, and run `broker worker`.",
        )
    else:
        yield "worker", "`broker serve` runs no background jobs; run `broker worker` beside it."
    if settings.algorithm in SECRET_BYTES:
        yield (
            "tokens",
            "Your backend signs them with SECRET_KEY (`broker token` prints one to try). For an identity provider set "
            "BROKER_JWKS_URL, BROKER_JWT_ISSUER and BROKER_JWT_AUDIENCE.",
        )
    if not settings.cors_origins:
        yield (
            "CORS",
            "No page may call the broker from another origin. Set BROKER_CORS_ORIGINS=https://app.example; "
            "`broker doctor` then checks that the bucket allows it too.",
        )
