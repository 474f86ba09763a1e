"""The S3 servers over which the acceptance suite runs."""

import os
from collections.abc import Iterator

import pytest

from tests.acceptance.ceph_rgw import CephRGW, missing_programs


@pytest.fixture(scope="session")
def ceph_rgw() -> Iterator[CephRGW]:
    """Run Ceph's gateway for the session; a machine without its programs skips, but never in CI."""
    if missing := missing_programs():
        absent = f"Ceph RGW needs {', '.join(missing)}"
        if "CI" in os.environ:
            pytest.fail(absent)
        pytest.skip(absent)
    with CephRGW() as ceph:
        yield ceph
