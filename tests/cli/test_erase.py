"""`broker erase`, as a process: it asks first, and records what the worker then does."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.store import Store
from tests.support.databases import sqlite_url
from tests.support.samples import UNLIMITED, pending

SETTINGS = {
    "SECRET_KEY": "an operator's secret of more than 32 bytes",
    "AWS_S3_BUCKET_NAME": "videos",
    "AWS_S3_REGION": "eu-central-1",
}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


def erase(url: str, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "erase", *arguments],
        input=answer,
        capture_output=True,
        text=True,
        env=SETTINGS | {"BROKER_DATABASE_URL": url},
        timeout=60,
    )


async def erasures(url: str) -> list[str]:
    """Return the owners that the worker is to erase."""
    store = Store(url)
    now = datetime.now(UTC)
    owners = await store.removal.claim_erasures(now + timedelta(days=1), next_at=now, limit=9)
    await store.close()
    return owners


async def test_an_owner_is_left_to_the_worker(database_url: str) -> None:
    store = Store(database_url)
    for owner in ("ann", "ann", "bob"):
        await store.add(pending(owner), UNLIMITED)
    await store.close()
    done = erase(database_url, "ann", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "'ann': 2 media" in done.stdout
    assert await erasures(database_url) == ["ann"]


@pytest.mark.parametrize(("answer", "expected"), [("y\n", ["ann"]), ("n\n", []), ("", [])])
async def test_it_asks_before_it_erases(answer: str, expected: list[str], database_url: str) -> None:
    done = erase(database_url, "ann", answer=answer)
    assert "Erase 'ann', with 0 media, for good?" in done.stderr
    assert bool(done.stdout) == bool(expected)
    assert done.returncode == (0 if expected else 1)
    assert await erasures(database_url) == expected


async def test_media_that_the_owner_issued_on_behalf_of_others_are_counted(database_url: str) -> None:
    store = Store(database_url)
    for owner in ("ann", "bob", "bob"):
        await store.add(pending(owner)._replace(issued_by="ann" if owner == "bob" else None), UNLIMITED)
    await store.close()
    done = erase(database_url, "ann", answer="y\n")
    assert "Erase 'ann', with 1 media and its name in 2 media of others, for good?" in done.stderr


async def test_what_is_no_owner_is_refused(database_url: str) -> None:
    done = erase(database_url, " ann", "--yes")
    assert done.returncode == 2
    assert "OWNER: should be 1 to 255 printable characters" in done.stderr
    assert await erasures(database_url) == []
