"""`broker doctor`: the examination of the deployment that the settings describe."""

from broker.doctor import Deployment, Finding, examine
from broker.doctor.finding import ok, warn
from broker.domain.access.jws import SECRET_BYTES
from broker.domain.origin import origin
from broker.errors import SettingsInvalid
from broker.settings import Settings, unknown_variables
from broker.wiring import bucket_config, egress_proxy


async def check_up(settings: Settings) -> list[Finding]:
    """Examine the deployment that the settings describe. Raises SettingsInvalid for the embedded S3."""
    if not settings.use_cloud_storage:
        raise SettingsInvalid(problems="USE_CLOUD_STORAGE: should be true; the embedded S3 needs no doctor")
    return [*unknown(), environment(settings), *await examine(deployment(settings))]


def unknown() -> list[Finding]:
    """Return a finding about variables that are named like a setting, if there are any."""
    variables = unknown_variables()
    if not variables:
        return []
    meant = ", ".join(f"{setting} in place of {name}" for name, setting in variables.items() if setting is not None)
    return [
        warn(
            "environment",
            f"no setting has the name {', '.join(variables)}",
            cause="it is misspelt, or of another release; nothing reads it, so a default applies",
            fix=f"unset {' '.join(variables)}" + (f"  # set {meant}" if meant else ""),
        )
    ]


def environment(settings: Settings) -> Finding:
    """Return a finding about settings that are valid, but not advisable in production."""
    if settings.public_url is not None and settings.public_url.startswith("http://"):
        return warn(
            "environment",
            f"BROKER_PUBLIC_URL is {settings.public_url}",
            cause="tokens would be sent unencrypted, and forms would redirect browsers to http",
            fix=f"export BROKER_PUBLIC_URL={settings.public_url.replace('http://', 'https://', 1)}",
        )
    if settings.algorithm not in SECRET_BYTES and not (settings.jwt_issuer and settings.jwt_audience):
        return warn(
            "environment",
            "tokens of every issuer or for every audience are accepted",
            cause="a provider signs the tokens of all its applications with the same keys",
            fix="export BROKER_JWT_ISSUER=… BROKER_JWT_AUDIENCE=…  # the `iss` and `aud` of the provider's tokens",
        )
    database = "SQLite: one process only" if settings.database_url.startswith("sqlite") else "PostgreSQL"
    return ok("environment", f"valid; {settings.cloud_storage_provider}, {settings.bucket_name}, {database}")


def deployment(settings: Settings) -> Deployment:
    """Return the doctor's part of the settings."""
    own = origin(settings.public_url) if settings.public_url else None
    return Deployment(
        bucket=bucket_config(settings),
        content_type=settings.allowed_types[0],
        page_origins=settings.cors_origins or ((own,) if own else ()),
        database_url=settings.database_url,
        database_schema=settings.database_schema,
        jwks_url=settings.jwks_url,
        token_algorithm=settings.algorithm,
        redis_url=settings.redis_url,
        count_in_redis=count_in_redis,
        queue_url=settings.sqs_queue_url,
        sqs_endpoint_url=settings.sqs_endpoint_url,
        webhook_urls=settings.webhook_urls,
        webhooks_on_loopback=settings.webhook_loopback_http,
        private_networks=settings.private_networks,
        egress_proxy=egress_proxy(settings),
        issue_hook_url=settings.issue_hook_url,
        issue_hook_secrets=tuple(secret.get_secret_value() for secret in settings.issue_hook_secrets),
        resumable_seconds=settings.resumable_seconds,
        issue_hook_seconds=settings.issue_hook_seconds,
        issue_hook_on_loopback=settings.issue_hook_loopback_http,
    )


async def count_in_redis(url: str) -> None:
    """Count on every node of the Redis at `url`. Raises an error if that fails."""
    from broker.api.limits.redis_storage import count_everywhere  # needs an optional dependency

    await count_everywhere(url)
