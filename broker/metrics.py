"""The metrics, for Prometheus. No label holds a value that a client chose.

Processes that share PROMETHEUS_MULTIPROC_DIR write there, and any of them serves the sums of all. The variable is read
when this module is imported. The counts of a dead process stay. A gauge holds the newest value of any process, or
(`livesum`) the sum of all: a process that was killed leaves its share there, which `exposition` removes.
Source: Prometheus Python client, "Multiprocess Mode (E.g. Gunicorn)".
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
OF_ONE_SERVER = "of-one-server"
"""The file that marks a directory of `counting_together`: only processes of one machine count there."""
BACKLOG = CollectorRegistry()
"""The gauges that only a request to `/metrics` sets. `broker worker` does not expose them, because its zeros would hide
from the alerts that no `broker serve` is running."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

ISSUES = Counter("broker_issues", "Policies that were issued.")
PART_POLICIES = Counter("broker_part_policies", "Policies for parts of resumable uploads that were issued.")
COMPLETES = Counter("broker_completes", "Requests to complete, by outcome.", ["outcome"])
TRANSITIONS = Counter("broker_transitions", "Changes of state, by event.", ["event"])
PLAYBACK_LINKS = Counter("broker_playback_links", "Playback links that were issued.")
REFUSALS = Counter("broker_refusals", "Requests that were answered with a problem, by problem type.", ["reason"])
QUOTA_REFUSALS = Counter("broker_quota_refusals", "Uploads that were refused by a quota.", ["quota"])
PROMOTION_SECONDS = Histogram("broker_promotion_seconds", "Time from the copy to its comparison.", buckets=SECONDS)
COMPOSITION_SECONDS = Histogram(
    "broker_composition_seconds",
    "Time in which the parts of a resumable upload became one object.",
    buckets=(*SECONDS, 300, 1800, 7200),
)
COMPOSITIONS = Gauge("broker_compositions", "Compositions in progress.", multiprocess_mode="livesum")
COMPOSITION_OUTCOMES = Counter(
    "broker_composition_outcomes", "Compositions that ended: composed, overwritten, lost, failed.", ["outcome"]
)
S3_SECONDS = Histogram("broker_s3_seconds", "Calls to S3, retries included.", ["operation"], buckets=SECONDS)
S3_CALLS = Gauge("broker_s3_calls", "Calls to S3 in progress.", multiprocess_mode="livesum")
S3_WAITING = Gauge("broker_s3_waiting", "Calls that wait for a place in the pool.", multiprocess_mode="livesum")
S3_RETRIES = Counter("broker_s3_retries", "Further attempts of calls to S3.", ["operation"])
S3_ERRORS = Counter("broker_s3_errors", "Calls to S3 that failed.", ["operation", "code"])
HOOK_SECONDS = Histogram(
    "broker_hook_seconds", "Calls of the application's hooks, retries included.", ["hook"], buckets=SECONDS
)
ISSUE_DECISIONS = Counter("broker_issue_decisions", "Decisions of the application on uploads, by outcome.", ["outcome"])
COMMIT_BATCH = Histogram(
    "broker_commit_batch_size", "Writes that shared one transaction.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
PENDING = Gauge(
    "broker_pending_media", "Media whose upload has not arrived.", multiprocess_mode="mostrecent", registry=BACKLOG
)
OLDEST_PENDING = Gauge(
    "broker_oldest_pending_seconds",
    "The age of the oldest pending media.",
    multiprocess_mode="mostrecent",
    registry=BACKLOG,
)
EVENTS = Counter("broker_events", "Messages of S3 events, by outcome.", ["outcome"])
QUEUE_LAG = Gauge(
    "broker_queue_lag_seconds", "The age of the oldest message in the last batch.", multiprocess_mode="mostrecent"
)
DELIVERIES = Counter("broker_webhook_deliveries", "Attempts to send a webhook, by outcome.", ["outcome"])
WEBHOOKS_WAITING = Gauge(
    "broker_webhooks_waiting", "Webhooks that are not delivered yet.", multiprocess_mode="mostrecent", registry=BACKLOG
)
WEBHOOKS_GIVEN_UP = Gauge(
    "broker_webhooks_given_up",
    "Webhooks that were given up and can still be retried.",
    multiprocess_mode="mostrecent",
    registry=BACKLOG,
)
WEBHOOK_LAG = Gauge(
    "broker_webhook_lag_seconds",
    "The age of the oldest undelivered webhook.",
    multiprocess_mode="mostrecent",
    registry=BACKLOG,
)
SWEEP_LAG = Gauge(
    "broker_sweep_lag_seconds",
    "How long the first media of the sweep has been due.",
    multiprocess_mode="mostrecent",
    registry=BACKLOG,
)


def set_backlog(
    now: datetime, pending_count: int, oldest_pending_at: datetime | None, oldest_due_at: datetime | None
) -> None:
    """Set the gauges from what the store counted at `now`."""
    PENDING.set(pending_count)
    OLDEST_PENDING.set(_age(now, oldest_pending_at))
    SWEEP_LAG.set(_age(now, oldest_due_at))


def set_untold(now: datetime, waiting: int, oldest_waiting_at: datetime | None, given_up: int) -> None:
    """Set the gauges of the outbox from what the store counted at `now`."""
    WEBHOOKS_WAITING.set(waiting)
    WEBHOOK_LAG.set(_age(now, oldest_waiting_at))
    WEBHOOKS_GIVEN_UP.set(given_up)


@contextmanager
def counting_together() -> Iterator[None]:
    """Give the processes that start in the body one metrics directory, and remove it at the end.

    If PROMETHEUS_MULTIPROC_DIR names a directory already, use that one and keep it. Raises OSError if none can be made.
    """
    if SHARED_DIRECTORY in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="broker-metrics-", ignore_cleanup_errors=True) as directory:
        Path(directory, OF_ONE_SERVER).touch()
        os.environ[SHARED_DIRECTORY] = directory
        try:
            yield
        finally:
            del os.environ[SHARED_DIRECTORY]


def exposition() -> bytes:
    """Return all metrics of all processes in Prometheus' text format."""
    if ValueClass.__name__ != "MmapedValue":
        return generate_latest(REGISTRY) + generate_latest(BACKLOG)
    directory = Path(os.environ[SHARED_DIRECTORY])
    if (directory / OF_ONE_SERVER).exists():
        _forget_dead_processes(directory)
    registry = CollectorRegistry()
    registry.register(Shared(directory))
    return generate_latest(registry)


class Shared(Collector):
    """The metrics that processes wrote to a directory.

    A process that starts makes each of its files empty, and sizes it afterwards. The library cannot read an empty one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all files that are not empty."""
        files = [str(file) for file in self._directory.glob("*.db") if _is_sized(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _is_sized(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # another process forgot a dead one just now
        return False


def _forget_dead_processes(directory: Path) -> None:
    """Remove the files of gauges whose process is dead. Its counts stay."""
    for file in directory.glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        if not _is_alive(process):
            with suppress(FileNotFoundError):  # another process did the same
                mark_process_dead(process, str(directory))  # type: ignore[no-untyped-call]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def _age(now: datetime, since: datetime | None) -> float:
    return max(0.0, (now - since).total_seconds()) if since is not None else 0.0
