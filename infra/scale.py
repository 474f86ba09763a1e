"""The resources for a number of uploads a second: replicas, PostgreSQL, S3's partitions, SQS, and the bill.

    python infra/scale.py                         1,000, 10,000 and 100,000 uploads a second
    python infra/scale.py 250 --megabytes 20      another load
    python infra/scale.py --help                  every figure it is based on

The default figures were measured, as infra/README.md describes; the prices are list prices of us-east-1 in US dollars
as published in 2025. Replace both with your own before you rely on a sum. Only the standard library is needed.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import ceil

LOADS = (1_000, 10_000, 100_000)
SECONDS_A_MONTH = 365.25 / 12 * 24 * 3600
PARTITIONS = 256
"""The two hex digits `<xx>` in every key."""


def _figure(default: float, meaning: str) -> float:
    value: float = field(default=default, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The inputs of the computation: measurements, limits, prices. Each is a command-line option."""

    megabytes: float = _figure(50, "size of a video")
    playbacks: float = _figure(3, "playback links per upload")

    issue_ms: float = _figure(0.16, "processor time of `serve` for an issue; measured")
    complete_ms: float = _figure(0.76, "processor time of `serve` or `worker` for a completion, S3 included; measured")
    playback_ms: float = _figure(0.17, "processor time of `serve` for a link; measured")
    busy: float = _figure(0.6, "highest share of a core in use, so that latency stays low")
    replica_cores: float = _figure(1, "cores of one replica; one process uses one")
    pool: float = _figure(5, "connections that one replica opens: 4 to read, 1 to write")

    database_ms: float = _figure(1.6, "processor time of PostgreSQL for an upload and its playbacks; measured")
    wal_bytes: float = _figure(1_750, "write-ahead log of an upload; measured")
    row_bytes: float = _figure(540, "bytes that an upload adds to the database, indexes included; measured")
    ended: float = _figure(0.2, "share of uploads that are rejected, expire or are deleted")
    keep_days: float = _figure(30, "days that their rows are kept: `BROKER_KEEP_…_DAYS`")
    primary_cores: float = _figure(96, "cores of the largest primary you would run")
    primary_connections: float = _figure(3_000, "connections that a primary serves well")
    primary_wal_megabytes: float = _figure(250, "write-ahead log that a primary sustains, MB/s")

    staging_writes: float = _figure(3, "writes to `staging/` of an upload: the form, two deletions")
    media_writes: float = _figure(1, "writes to `media/` of an upload: the copy")
    partition_writes: float = _figure(3_500, "writes a second that S3 promises for a prefix")
    heads: float = _figure(1, "HEAD requests of a completion")
    sqs_batch: float = _figure(10, "messages in one receive or deletion; 1 when the queue is nearly empty")

    price_s3_write: float = _figure(5.0, "$ for a million POST or COPY requests")
    price_s3_read: float = _figure(0.4, "$ for a million GET or HEAD requests")
    price_s3_gigabyte: float = _figure(0.023, "$ for storing a GB for a month")
    price_sqs: float = _figure(0.4, "$ for a million SQS requests")
    price_core: float = _figure(29.55, "$ for a Fargate vCPU a month")
    price_memory: float = _figure(3.24, "$ for a Fargate GB a month")
    replica_gigabytes: float = _figure(2, "memory of a replica")
    price_database_core: float = _figure(130, "$ for a core of PostgreSQL in two zones a month")
    price_database_gigabyte: float = _figure(0.23, "$ for a GB of its disk in two zones a month")


@dataclass(frozen=True, slots=True)
class Need:
    """The resources for one load. Dollars and gigabytes are per month."""

    uploads: float
    cores: float
    replicas: int
    connections: int
    database_cores: float
    wal_megabytes: float
    primaries: int
    rows_gigabytes: float
    removed_gigabytes: float
    staging_partitions: int
    media_partitions: int
    sqs_requests: float
    ingress_gigabits: float
    dollars: dict[str, float]

    @property
    def fits_s3(self) -> bool:
        """Return whether S3 can serve the load with the prefixes that the keys have."""
        return max(self.staging_partitions, self.media_partitions) <= PARTITIONS


def need(uploads: float, figures: Figures) -> Need:
    """Return the resources for `uploads` a second, sustained. Raises ValueError unless `uploads` is positive."""
    if uploads <= 0:
        raise ValueError("uploads a second should be more than 0")
    f = figures
    cores = uploads * (f.issue_ms + f.complete_ms + f.playbacks * f.playback_ms) / 1000 / f.busy
    replicas = max(2, ceil(cores / f.replica_cores))
    database_cores = uploads * f.database_ms / 1000 / f.busy
    wal_megabytes = uploads * f.wal_bytes / 1e6
    connections = replicas * f.pool
    primaries = max(
        1,
        ceil(database_cores / f.primary_cores),
        ceil(wal_megabytes / f.primary_wal_megabytes),
        ceil(connections / f.primary_connections),
    )
    sqs_requests = uploads * (1 + 2 / f.sqs_batch)
    millions = uploads * SECONDS_A_MONTH / 1e6
    rows_gigabytes = millions * f.row_bytes / 1e3 * (1 - f.ended)
    removed_gigabytes = uploads * f.ended * f.keep_days * 24 * 3600 * f.row_bytes / 1e9
    return Need(
        uploads=uploads,
        cores=cores,
        replicas=replicas,
        connections=ceil(connections / primaries),
        database_cores=database_cores,
        wal_megabytes=wal_megabytes,
        primaries=primaries,
        rows_gigabytes=rows_gigabytes,
        removed_gigabytes=removed_gigabytes,
        staging_partitions=ceil(uploads * f.staging_writes / f.partition_writes),
        media_partitions=ceil(uploads * f.media_writes / f.partition_writes),
        sqs_requests=sqs_requests,
        ingress_gigabits=uploads * f.megabytes * 8 / 1e3,
        dollars={
            "S3 requests": millions * (2 * f.price_s3_write + f.heads * f.price_s3_read),
            "SQS requests": millions * (1 + 2 / f.sqs_batch) * f.price_sqs,
            "replicas": replicas * (f.replica_cores * f.price_core + f.replica_gigabytes * f.price_memory),
            "database": max(2, database_cores) * f.price_database_core
            + (rows_gigabytes + removed_gigabytes) * f.price_database_gigabyte,
            "storing a month's videos for a month": millions * 1e6 * f.megabytes / 1e3 * f.price_s3_gigabyte,
        },
    )


def dollars_per_million(load: Need) -> dict[str, float]:
    """Return the items of the bill for a million uploads."""
    millions = load.uploads * SECONDS_A_MONTH / 1e6
    return {part: dollars / millions for part, dollars in load.dollars.items()}


def table(needs: Sequence[Need]) -> str:
    """Return a Markdown table with one column for each load."""
    rows = [
        ("Uploads a second", [f"{load.uploads:,.0f}" for load in needs]),
        ("Cores for `serve` and `worker`", [f"{load.cores:,.1f}" for load in needs]),
        ("Replicas, two at least", [f"{load.replicas:,}" for load in needs]),
        ("PostgreSQL: cores", [f"{load.database_cores:,.1f}" for load in needs]),
        ("PostgreSQL: write-ahead log, MB/s", [f"{load.wal_megabytes:,.1f}" for load in needs]),
        ("PostgreSQL: primaries (cells)", [f"{load.primaries:,}" for load in needs]),
        ("PostgreSQL: connections to each", [f"{load.connections:,}" for load in needs]),
        ("PostgreSQL: rows that stay, GB a month", [f"{load.rows_gigabytes:,.0f}" for load in needs]),
        ("PostgreSQL: rows until their removal, GB", [f"{load.removed_gigabytes:,.0f}" for load in needs]),
        (f"S3: `staging/` prefixes, of {PARTITIONS}", [f"{load.staging_partitions:,}{_alarm(load)}" for load in needs]),
        (f"S3: `media/` prefixes, of {PARTITIONS}", [f"{load.media_partitions:,}{_alarm(load)}" for load in needs]),
        ("S3: uploads from clients, Gbit/s", [f"{load.ingress_gigabits:,.0f}" for load in needs]),
        ("SQS: requests a second", [f"{load.sqs_requests:,.0f}" for load in needs]),
        *(
            (f"$ for a million uploads: {part}", [f"{dollars_per_million(load)[part]:,.2f}" for load in needs])
            for part in needs[0].dollars
        ),
    ]
    return "\n".join(_lines(rows))


def _alarm(load: Need) -> str:
    return "" if load.fits_s3 else " (too many)"


def _lines(rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    for place, (name, cells) in enumerate(rows):
        yield f"| {' | '.join([name, *cells])} |"
        if place == 0:
            yield f"| --- |{' ---: |' * len(cells)}"


def main(arguments: Sequence[str] | None = None) -> str:
    """Return the table for the command line's loads and figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("uploads", nargs="*", type=float, help="uploads a second", default=LOADS)
    for figure in fields(Figures):
        name, meaning = f"--{figure.name.replace('_', '-')}", figure.metadata["meaning"]
        help_text = f"{meaning} (%(default)s)"
        parser.add_argument(name, type=float, default=figure.default, help=help_text, metavar="N")
    options = vars(parser.parse_args(arguments))
    loads = options.pop("uploads")
    return table([need(load, Figures(**options)) for load in loads])


if __name__ == "__main__":
    print(main())  # noqa: T201
