"""Ceph's S3 gateway, from Debian's packages: an independent S3 server that judges the acceptance suite.

One monitor, one storage daemon that keeps its objects in memory, and the gateway in front of them: child
processes on 127.0.0.1, in a temporary directory. To run it by hand until standard input closes:

    python -m tests.support.ceph_rgw
"""

import secrets
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest

from tests.support.daemons import Daemons, free_ports, run_until_input_closes
from tests.support.programs import require_programs

PROGRAMS = ("monmaptool", "ceph-mon", "ceph", "ceph-osd", "radosgw-admin", "radosgw", "setpriv")
"""Programs that must be on PATH: from Debian's ceph-common, ceph-mon, ceph-osd, radosgw and util-linux."""

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {home}
crash dir = {home}
admin socket =
log file = {home}/$name.log

# One copy of everything, in memory.
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
rgw rados pool pg num min = 1
mon allow pool size one = true

# A single monitor need not wait for others to join a proposal. It ignores how full the disk is.
paxos propose interval = 0.02
paxos min wait = 0.02
mon data avail crit = 0

[mon.a]
mon data = {home}/mon

[osd.0]
osd data = {home}/osd

[client.rgw]
# The gateway's default, an encrypted connection, needs the authentication that is off here.
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
"""


class CephRGW:
    """A Ceph S3 gateway that runs while the context is open.

    Within the context `endpoint_url` answers path-style S3 requests that are signed with `access_key` and
    `secret_key` for `region`. Their user may create buckets; the server starts without any.
    """

    region = "us-east-1"

    def __init__(self) -> None:
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_hex(20)
        self._daemons = Daemons("ceph-rgw-")
        home = self._daemons.home
        mon_port, rgw_port = free_ports(2)
        self._mon_address = f"v2:127.0.0.1:{mon_port}"
        self.endpoint_url = f"http://127.0.0.1:{rgw_port}"
        self._fsid = str(uuid.uuid4())
        configuration = home / "ceph.conf"
        configuration.write_text(CONFIGURATION.format(fsid=self._fsid, home=home, mon_port=mon_port, rgw_port=rgw_port))
        self._daemons.environment = {**self._daemons.environment, "CEPH_CONF": str(configuration)}

    def __enter__(self) -> Self:
        try:
            self._start_monitor()
            self._start_storage()
            self._create_user()
            self._start_gateway()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the daemons and remove all files that they wrote."""
        self._daemons.stop()

    def _start_monitor(self) -> None:
        monmap = self._daemons.home / "monmap"
        address = f"[{self._mon_address}]"
        self._daemons.run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, str(monmap))
        (self._daemons.home / "mon").mkdir()
        self._daemons.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap))
        self._daemons.spawn("ceph-mon", "--foreground", "-i", "a")

    def _start_storage(self) -> None:
        # The monitor lets an OSD join only under the UUID that was registered for its number.
        osd_uuid = str(uuid.uuid4())
        self._daemons.run("ceph", "osd", "create", osd_uuid)
        (self._daemons.home / "osd").mkdir()
        self._daemons.run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd_uuid)
        self._daemons.spawn("ceph-osd", "--foreground", "-i", "0")

    def _create_user(self) -> None:
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        user = ("--uid=acceptance", "--display-name=acceptance")
        self._daemons.run("radosgw-admin", "-n", "client.rgw", "user", "create", *user, *keys)

    def _start_gateway(self) -> None:
        gateway = self._daemons.spawn("radosgw", "--foreground", "-n", "client.rgw")
        self._daemons.wait_for_answer(gateway, self.endpoint_url, lambda answer: answer.is_success)


@pytest.fixture(scope="session")
def ceph_rgw() -> Iterator[CephRGW]:
    """Run Ceph RGW for the session."""
    require_programs(*PROGRAMS, purpose="Ceph RGW")
    with CephRGW() as server:
        yield server


if __name__ == "__main__":
    run_until_input_closes(CephRGW())
