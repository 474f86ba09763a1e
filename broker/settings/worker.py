"""The settings of the background jobs: S3 events, webhooks, the probe of videos, and the retention of records."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from broker.domain.media import State
from broker.settings.fields import CommaSeparated, bare_address
from broker.settings.hooks import HookSettings, SigningSecrets, is_hook_address

Days = Annotated[int, Field(ge=0, le=36_500)]


class WorkerSettings(HookSettings):
    """The settings of the background jobs. Durations are seconds; the docstring of a field is its description."""

    # S3 events.
    sqs_queue_url: str | None = None
    """The SQS queue of the bucket's ObjectCreated events, directly or through SNS or EventBridge."""
    sqs_endpoint_url: str | None = None
    """The SQS endpoint, for queues other than AWS's."""

    # Webhooks.
    webhook_urls: CommaSeparated = ()
    """The https URLs that are notified of each media's changes, comma-separated."""
    webhook_secrets: SigningSecrets = ()
    """The secret that signs webhooks, `whsec_…`; during a rotation two, comma-separated."""
    webhook_loopback_http: bool = False
    """Whether webhooks may go to http on this machine; for development."""

    # The probe of videos.
    probe: bool = False
    """Whether ffprobe checks each upload's real duration; uploads that are too long, or not a video, are rejected."""
    probe_program: str = "ffprobe"
    """The name or path of ffprobe."""
    probe_seconds: float = Field(default=20, gt=0, le=900)
    """The timeout of one probe; the signature of its requests holds for 15 minutes."""

    # How long records are kept.
    keep_rejected_days: Days = 30
    """How many days the record of a media is kept after it was rejected; 0: for ever."""
    keep_expired_days: Days = 30
    """How many days the record of a media is kept after it expired; 0: for ever."""
    keep_deleted_days: Days = 30
    """How many days the record of a media, without its objects, is kept after it was deleted; 0: for ever."""

    # The worker itself.
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """The port on which `broker worker` serves its metrics to Prometheus; unset: none."""
    worker_metrics_host: str = "127.0.0.1"
    """The address on which it serves them."""

    @property
    def kept_records(self) -> dict[State, timedelta]:
        """Return how long records are kept in each state; those of other states are kept for ever."""
        days = {
            State.REJECTED: self.keep_rejected_days,
            State.EXPIRED: self.keep_expired_days,
            State.DELETED: self.keep_deleted_days,
        }
        return {state: timedelta(days=count) for state, count in days.items() if count}

    @field_validator("sqs_queue_url", "sqs_endpoint_url")
    @classmethod
    def _address_is_bare(cls, value: str | None) -> str | None:
        return bare_address(value)

    @model_validator(mode="after")
    def _webhooks_are_safe(self) -> "WorkerSettings":
        if not all(is_hook_address(url, loopback_http=self.webhook_loopback_http) for url in self.webhook_urls):
            raise ValueError(
                "BROKER_WEBHOOK_URLS: should be https addresses in ASCII without a user, a fragment or spaces"
            )
        if len(set(self.webhook_urls)) < len(self.webhook_urls):
            raise ValueError("BROKER_WEBHOOK_URLS: should name each address once")
        if self.webhook_urls and not self.webhook_secrets:
            raise ValueError("BROKER_WEBHOOK_SECRETS: should be set if BROKER_WEBHOOK_URLS is set")
        return self
