import subprocess
import sys

import httpx
import pytest

from tests.support.ceph_rgw import CephRGW
from tests.support.seaweedfs import SeaweedFS


@pytest.fixture(params=["ceph_rgw", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> CephRGW | SeaweedFS:
    """Return each server that this project did not write."""
    running: CephRGW | SeaweedFS = request.getfixturevalue(request.param)
    return running


def test_a_server_run_by_hand_prints_its_endpoint_and_ends_with_its_standard_input(
    server: CephRGW | SeaweedFS,
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", type(server).__module__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdin is not None
    assert program.stdout is not None
    printed = dict(program.stdout.readline().strip().split("=", 1) for _ in range(4))
    assert httpx.get(printed["endpoint_url"]).status_code in {200, 403}
    program.stdin.close()
    assert program.wait(timeout=10) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(printed["endpoint_url"])


def test_an_unsigned_request_is_refused(server: CephRGW | SeaweedFS) -> None:
    answer = httpx.put(f"{server.endpoint_url}/a-bucket")
    assert answer.status_code == 403
    assert b"<Code>AccessDenied</Code>" in answer.content
