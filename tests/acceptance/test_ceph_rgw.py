import subprocess
import sys

import httpx
import pytest

from tests.support.ceph_rgw import CephRGW


@pytest.mark.usefixtures("ceph_rgw")
def test_run_by_hand_it_names_its_endpoint_and_ends_with_its_standard_input() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ceph_rgw"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    said = dict(program.stdout.readline().strip().split("=", 1) for _ in range(4))
    assert httpx.get(said["endpoint_url"]).status_code == 200
    program.stdin.close()
    assert program.wait(timeout=10) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(said["endpoint_url"])


def test_a_stranger_is_refused(ceph_rgw: CephRGW) -> None:
    answer = httpx.put(f"{ceph_rgw.endpoint_url}/a-bucket")
    assert answer.status_code == 403
    assert b"<Code>AccessDenied</Code>" in answer.content
