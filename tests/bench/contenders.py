"""Ours and the peers: how each is started, what it is asked, what it does for that and what it leaves out."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tests.bench.generator import Request
from tests.bench.servers import Contender, ask, serving
from tests.bench.workplace import BUILD, READY, ROOT, Workplace, with_ready_media

APPS = Path(__file__).resolve().parent / "apps"
NPM = BUILD / "npm"
PACKAGES = (
    "@uppy/companion@6",
    "express@5",
    "jsonwebtoken@9",
    "@aws-sdk/client-s3@3",
    "@aws-sdk/s3-presigned-post@3",
    "@aws-sdk/s3-request-presigner@3",
)
PREFIX = "/api/v1/s3-media"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE"}
OURS = "broker"
HIGH = "1000000000/minute"
"""A limit that counts every request and refuses none here."""
LIMITED = ("ADDRESS", "ISSUE", "COMPLETE", "PLAYBACK", "DELETE", "FORM", "HEALTH")


def ours(
    place: Workplace, kind: str, *, name: str, filled: tuple[str, list[str]] | None = None, workers: int | None = None
) -> Contender:
    """Return `broker serve` as it is deployed, on a database of this kind that holds some ready media.

    `filled`: the URL of such a database and ids of ready media in it; None makes one.
    """
    url = filled[0] if filled else place.new_database(kind)
    ids = filled[1] if filled else with_ready_media(url)
    options = () if workers is None else ("--workers", str(workers))
    return Contender(
        name=name,
        does=(
            "verifies the RS256 token (once: it is then remembered for a minute), checks permission, type, size and "
            "quota, counts limits, records the media durably before it signs; metrics, request ids, security headers "
            "and one line of log per request, to a file"
            + ("; SQLite with synchronous=FULL" if kind == "sqlite" else "; PostgreSQL, on the load's core")
        ),
        leaves_out="nothing",
        command=(str(place.python), "-m", "broker", "serve", "--port", "{port}", *options),
        environment=KEYS
        | {
            "PYTHONPATH": str(ROOT),
            "SECRET_KEY": "a secret of the benchmark, of more than 32 bytes",
            "AWS_S3_BUCKET_NAME": "media-bucket",
            "AWS_S3_REGION": "eu-west-1",
            "BROKER_DATABASE_URL": url,
            "BROKER_JWT_PUBLIC_KEY": str(place.public_key),
            "BROKER_QUOTA_PENDING_COUNT": str(10**9),
            "BROKER_QUOTA_PROMISED_BYTES": str(10**17),
            "BROKER_QUOTA_STORED_BYTES": str(10**17),
            "BROKER_QUOTA_MEDIA_COUNT": str(10**9),
        }
        | {f"BROKER_RATE_LIMIT_{what}": HIGH for what in LIMITED},
        requests={"issue": place.issue(f"{PREFIX}/upload"), "playback": place.playback(PREFIX, ids)},
    )


def verifying_each(contender: Contender) -> Contender:
    """Return the same broker with no memory for tokens: what a request costs whose token was not seen before."""
    return replace(
        contender,
        name=f"{contender.name}, each token anew",
        does="the same, with BROKER_TOKEN_MEMORY_SECONDS=0: each request's token is verified",
        environment={**contender.environment, "BROKER_TOKEN_MEMORY_SECONDS": "0"},
        requests={"issue": contender.requests["issue"]},
    )


def bare(place: Workplace, answers: dict[str, bytes]) -> Contender:
    """Return a bare ASGI handler that answers the same bytes as ours did."""
    files = {row: place.directory / f"{row}.json" for row in answers}
    for row, body in answers.items():
        files[row].write_bytes(body)
    return Contender(
        name="bare ASGI",
        does="reads the body and answers recorded bytes of ours, under the same uvicorn (uvloop, httptools)",
        leaves_out="everything else",
        command=_uvicorn(place, "bare"),
        environment={"PYTHONPATH": str(APPS)} | {f"BENCH_{row.upper()}": str(file) for row, file in files.items()},
        requests={"issue": place.issue("/upload"), "playback": place.playback("", ["one"])},
    )


def tutorial(place: Workplace, cores: frozenset[int]) -> Contender:
    """Return the tutorial's application with some media in its database."""
    contender = Contender(
        name="tutorial",
        does="verifies the RS256 token, validates the body, commits one row per request (SQLite's defaults), signs; "
        "its pool of connections is widened, without which it comes to a stand at 64 connections",
        leaves_out="permissions, limits, quotas, idempotency, metrics, a log, any check of what arrived",
        command=_uvicorn(place, "tutorial"),
        environment=KEYS
        | {
            "PYTHONPATH": str(APPS),
            "BENCH_DATABASE": str(place.directory / "tutorial.db"),
            "BENCH_PUBLIC_KEY": str(place.public_key),
        },
        requests={"issue": place.issue("/upload")},
    )
    with serving(contender, cores, place.directory) as server:
        ids = [json.loads(ask(server.base, contender.requests["issue"]))["media_id"] for _ in range(READY // 5)]
    return replace(contender, requests={**contender.requests, "playback": place.playback("", ids)})


def node_peers(place: Workplace) -> Iterable[Contender]:
    """Install the peers that run on Node, where they are not installed yet, and return them."""
    _install()
    node = {"NODE_ENV": "production"} | KEYS
    yield Contender(
        name="Companion",
        does=f"Uppy Companion {_version('@uppy/companion')}: GET /s3/params presigns a POST",
        leaves_out="any token, any record, permissions, limits, quotas, the size in the policy, a log",
        command=("node", str(NPM / "companion.mjs"), "{port}", str(place.directory)),
        environment=node,
        requests={"issue": Request("GET", ["/s3/params?filename=holiday.mp4&type=video%2Fmp4"])},
        is_node=True,
    )
    yield Contender(
        name="Express",
        does=(
            f"Express {_version('express')} with jsonwebtoken and the AWS SDK {_version('@aws-sdk/client-s3')}: "
            "verifies the RS256 token, parses the body, createPresignedPost"
        ),
        leaves_out="any record, permissions, limits, quotas, metrics, a log",
        command=("node", str(NPM / "express.mjs"), "{port}", str(place.public_key)),
        environment=node,
        requests={"issue": place.issue("/upload")},
        is_node=True,
    )


def _uvicorn(place: Workplace, module: str) -> tuple[str, ...]:
    fastest = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    return (str(place.python), "-m", "uvicorn", f"{module}:app", "--port", "{port}", *fastest)


def _install() -> None:
    """Install the packages without a lock file, and put the programs beside them, where Node finds them."""
    installed = NPM / "installed"
    if not installed.exists() or installed.read_text() != " ".join(PACKAGES):
        shutil.rmtree(NPM, ignore_errors=True)
        NPM.mkdir(parents=True)
        (NPM / "package.json").write_text('{"private": true}')
        options = ("--omit=dev", "--no-audit", "--no-fund", "--no-package-lock")
        print(f"installing {', '.join(PACKAGES)} …", file=sys.stderr)
        subprocess.run(["npm", "install", *options, *PACKAGES], cwd=NPM, check=True, stdout=sys.stderr, env=os.environ)
        installed.write_text(" ".join(PACKAGES))
    for program in APPS.glob("*.mjs"):
        shutil.copy(program, NPM)


def _version(package: str) -> str:
    version: str = json.loads((NPM / "node_modules" / package / "package.json").read_text())["version"]
    return version
