"""The settings of what happens without a client: S3's events, webhooks, the look into a video."""

import base64
import binascii
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from broker.domain.origin import is_loopback, origin
from broker.settings.access import AccessSettings
from broker.settings.fields import CommaSeparated, bare_address, split_at_commas

SECRET_BYTES = range(24, 65)
"""How many bytes a signing secret has (Standard Webhooks specification, "Symmetric")."""


class WorkerSettings(AccessSettings):
    """Hold what the worker does. Durations are seconds; the docstring of a field says what it does."""

    # S3's events.
    sqs_queue_url: str | None = None
    """The SQS queue of the bucket's ObjectCreated events, directly or through SNS or EventBridge."""
    sqs_endpoint_url: str | None = None
    """Where SQS is, for queues other than AWS's."""

    # Webhooks.
    webhook_urls: CommaSeparated = ()
    """The https addresses that are told what became of each media, comma-separated."""
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split_at_commas)] = ()
    """What webhooks are signed with, `whsec_…`; two, comma-separated, while one replaces the other."""
    webhook_loopback_http: bool = False
    """true: webhooks may go to http on this machine; for development."""

    # The look into a video.
    probe: bool = False
    """true: ffprobe tells each upload's real duration, and rejects what is too long or no video."""
    probe_program: str = "ffprobe"
    """The program that looks, by its name or path."""
    probe_seconds: float = Field(default=20, gt=0)
    """How long one look may take."""

    # The worker itself.
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where `broker worker` shows its metrics to Prometheus; unset: nowhere."""
    worker_metrics_host: str = "127.0.0.1"
    """The address that it shows them on."""

    @field_validator("sqs_queue_url", "sqs_endpoint_url")
    @classmethod
    def _address_is_bare(cls, value: str | None) -> str | None:
        return bare_address(value)

    @field_validator("webhook_secrets")
    @classmethod
    def _secrets_can_sign(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if len(value) > 2:
            raise ValueError("should be one secret, or two while one replaces the other")
        for secret in value:
            encoded = secret.get_secret_value().removeprefix("whsec_")
            try:
                size = len(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                size = 0
            if size not in SECRET_BYTES:
                raise ValueError("should be whsec_ and 24 to 64 random bytes in base64")
        return value

    @model_validator(mode="after")
    def _webhooks_are_safe(self) -> "WorkerSettings":
        for url in self.webhook_urls:
            parts = urlsplit(url)
            on_loopback = self.webhook_loopback_http and is_loopback(url)
            if origin(url) is None or parts.fragment or (parts.scheme != "https" and not on_loopback):
                raise ValueError("BROKER_WEBHOOK_URLS: should be https addresses without a user or a fragment")
        if len(set(self.webhook_urls)) < len(self.webhook_urls):
            raise ValueError("BROKER_WEBHOOK_URLS: should name each address once")
        if self.webhook_urls and not self.webhook_secrets:
            raise ValueError("BROKER_WEBHOOK_SECRETS: should be set where BROKER_WEBHOOK_URLS is")
        return self

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """Return what webhooks are signed with."""
        return tuple(secret.get_secret_value() for secret in self.webhook_secrets)
