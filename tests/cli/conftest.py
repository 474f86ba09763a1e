"""A `broker dev` that all tests which only use it share."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.processes import Running, read_variables, running


async def no_rest(_: float) -> None:
    """Retry at once."""


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `broker dev`: its process, its directory, and what `dev.env` in it sets."""

    running: Running
    cwd: Path
    variables: dict[str, str]
    started_in: float
    """How long it took until it answered, in seconds."""

    @property
    def url(self) -> str:
        """Return where the broker's routes are."""
        return self.variables["BROKER_URL"]

    @property
    def bearer(self) -> dict[str, str]:
        """Return the header that carries the ready-made token."""
        return {"Authorization": f"Bearer {self.variables['BROKER_TOKEN']}"}


@pytest.fixture(scope="package")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """Run `broker dev` once, with room for large files."""
    cwd = tmp_path_factory.mktemp("dev")
    began = time.monotonic()
    with running("dev", "--port", "0", cwd=cwd, MAX_FILE_SIZE=str(2 * 1024**3)) as started:
        started.wait_for("Try in another terminal")
        variables = read_variables((cwd / "var" / "dev.env").read_text())
        httpx.get(f"{variables['BROKER_URL']}/health/s3").raise_for_status()
        yield Dev(started, cwd, variables, time.monotonic() - began)
        started.end()
