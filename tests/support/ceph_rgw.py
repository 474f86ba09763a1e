"""Ceph's S3 gateway, from Debian's packages: an independent S3 server that judges the acceptance suite.

One monitor, one storage daemon that keeps its objects in memory, and the gateway in front of them: child
processes on 127.0.0.1, in a temporary directory. To run it by hand until standard input closes:

    python -m tests.support.ceph_rgw
"""

import uuid
from collections.abc import Iterator

import pytest

from tests.support.daemons import DaemonS3, free_ports, run_until_input_closes
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


class CephRGW(DaemonS3):
    """A Ceph S3 gateway."""

    def __init__(self) -> None:
        super().__init__("ceph-rgw-")
        mon_port, rgw_port = free_ports(2)
        self._mon_address = f"v2:127.0.0.1:{mon_port}"
        self.endpoint_url = f"http://127.0.0.1:{rgw_port}"
        self._fsid = str(uuid.uuid4())
        configuration = self.home / "ceph.conf"
        ports = {"mon_port": mon_port, "rgw_port": rgw_port}
        configuration.write_text(CONFIGURATION.format(fsid=self._fsid, home=self.home, **ports))
        self.environment = {**self.environment, "CEPH_CONF": str(configuration)}

    def start(self) -> None:
        """Start the monitor, the storage daemon and the gateway."""
        self._start_monitor()
        self._start_storage()
        self._create_user()
        self._start_gateway()

    def _start_monitor(self) -> None:
        monmap = self.home / "monmap"
        address = f"[{self._mon_address}]"
        self.run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, str(monmap))
        (self.home / "mon").mkdir()
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap))
        self.spawn("ceph-mon", "--foreground", "-i", "a")

    def _start_storage(self) -> None:
        # The monitor lets an OSD join only under the UUID that was registered for its number.
        osd_uuid = str(uuid.uuid4())
        self.run("ceph", "osd", "create", osd_uuid)
        (self.home / "osd").mkdir()
        self.run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd_uuid)
        self.spawn("ceph-osd", "--foreground", "-i", "0")

    def _create_user(self) -> None:
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        user = ("--uid=acceptance", "--display-name=acceptance")
        self.run("radosgw-admin", "-n", "client.rgw", "user", "create", *user, *keys)

    def _start_gateway(self) -> None:
        gateway = self.spawn("radosgw", "--foreground", "-n", "client.rgw")
        self.wait_for_answer(gateway, self.endpoint_url, lambda answer: answer.is_success)


@pytest.fixture(scope="session")
def ceph_rgw() -> Iterator[CephRGW]:
    """Run Ceph RGW for the session."""
    require_programs(*PROGRAMS, purpose="Ceph RGW")
    with CephRGW() as server:
        yield server


if __name__ == "__main__":
    run_until_input_closes(CephRGW())
