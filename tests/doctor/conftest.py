"""The fixture of a healthy deployment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.dev.s3 import EmbeddedS3
from tests.doctor.deployed import Deployed


@pytest.fixture
def deployed(embedded_s3: EmbeddedS3, tmp_path: Path) -> Iterator[Deployed]:
    """Make a deployment as Terraform does; the server's faults and clock are set back afterwards."""
    yield Deployed(embedded_s3, tmp_path).make()
    embedded_s3.clear_faults()
    embedded_s3.set_clock(0)
