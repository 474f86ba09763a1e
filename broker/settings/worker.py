"""The settings of the background jobs: S3 events, webhooks, and the probe of videos."""

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
"""The allowed sizes of a signing secret in bytes (Standard Webhooks specification, "Symmetric")."""


class WorkerSettings(AccessSettings):
    """The settings of the background jobs. Durations are seconds; the docstring of a field is its description."""

    # S3 events.
    sqs_queue_url: str | None = None
    """The SQS queue of the bucket's ObjectCreated events, directly or through SNS or EventBridge."""
    sqs_endpoint_url: str | None = None
    """The SQS endpoint, for queues other than AWS's."""

    # Webhooks.
    webhook_urls: CommaSeparated = ()
    """The https URLs that are notified of each media's changes, comma-separated."""
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split_at_commas)] = ()
    """The secret that signs webhooks, `whsec_…`; during a rotation two, comma-separated."""
    webhook_loopback_http: bool = False
    """Whether webhooks may go to http on this machine; for development."""

    # The probe of videos.
    probe: bool = False
    """Whether ffprobe checks each upload's real duration; uploads that are too long, or not a video, are rejected."""
    probe_program: str = "ffprobe"
    """The name or path of ffprobe."""
    probe_seconds: float = Field(default=20, gt=0)
    """The timeout of one probe."""

    # The worker itself.
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """The port on which `broker worker` serves its metrics to Prometheus; unset: none."""
    worker_metrics_host: str = "127.0.0.1"
    """The address on which it serves them."""

    @field_validator("sqs_queue_url", "sqs_endpoint_url")
    @classmethod
    def _address_is_bare(cls, value: str | None) -> str | None:
        return bare_address(value)

    @field_validator("webhook_secrets")
    @classmethod
    def _secrets_can_sign(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if len(value) > 2:
            raise ValueError("should be one secret, or two during a rotation")
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
            raise ValueError("BROKER_WEBHOOK_SECRETS: should be set if BROKER_WEBHOOK_URLS is set")
        return self

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """Return the secrets that sign webhooks."""
        return tuple(secret.get_secret_value() for secret in self.webhook_secrets)
