"""Ceph's S3 gateway, from Debian's packages, as a judge that this project did not write.

One monitor, one storage daemon that keeps its objects in memory, and the gateway in front of them: child
processes on 127.0.0.1, in a temporary directory. By hand, until standard input closes:

    python -m tests.acceptance.ceph_rgw
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

PROGRAMS = ("monmaptool", "ceph-mon", "ceph", "ceph-osd", "radosgw-admin", "radosgw", "setpriv")
"""What must be on PATH: Debian's ceph-common, ceph-mon, ceph-osd, radosgw and util-linux."""

STARTS_IN_SECONDS = 30
"""How long each step of the start may take; all of them together take two to ten seconds."""

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

# A lone monitor needs not wait for others to join a proposal, nor care how full the disk is.
paxos propose interval = 0.02
paxos min wait = 0.02
mon data avail crit = 0

[mon.a]
mon data = {home}/mon

[osd.0]
osd data = {home}/osd

[client.rgw]
# The gateway's own default, an encrypted line, needs the authentication that is switched off above.
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
"""


def missing_programs() -> list[str]:
    """Return the names of the programs that this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class StartError(RuntimeError):
    """A daemon ended, or did not answer in time; the message holds the end of its log."""


class CephRGW:
    """Run a Ceph S3 gateway for as long as the context lasts.

    Within the context `endpoint_url` answers S3 requests, path style, signed with `access_key` and
    `secret_key` for `region`. The user they belong to may create buckets; there are none yet.
    """

    region = "us-east-1"

    def __init__(self) -> None:
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self._home = Path(tempfile.mkdtemp(prefix="ceph-rgw-"))
        mon_port, rgw_port = _free_ports(2)
        self._mon_address = f"v2:127.0.0.1:{mon_port}"
        self.endpoint_url = f"http://127.0.0.1:{rgw_port}"
        self._fsid = str(uuid.uuid4())
        self._configuration = self._home / "ceph.conf"
        self._configuration.write_text(
            CONFIGURATION.format(fsid=self._fsid, home=self._home, mon_port=mon_port, rgw_port=rgw_port)
        )
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

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
        """Kill the daemons, since nothing of theirs is kept, and remove all that they wrote."""
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()
        shutil.rmtree(self._home, ignore_errors=True)

    def _start_monitor(self) -> None:
        monmap = self._home / "monmap"
        self._run(
            "monmaptool",
            "--create",
            "--fsid",
            self._fsid,
            "--addv",
            "a",
            f"[{self._mon_address}]",
            str(monmap),
        )
        (self._home / "mon").mkdir()
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap))
        self._spawn("ceph-mon", "-i", "a")

    def _start_storage(self) -> None:
        # The monitor lets an OSD join only under the UUID that was registered for its number.
        osd_uuid = str(uuid.uuid4())
        self._run("ceph", "osd", "create", osd_uuid)
        (self._home / "osd").mkdir()
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd_uuid)
        self._spawn("ceph-osd", "-i", "0")

    def _create_user(self) -> None:
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        self._run(
            "radosgw-admin",
            "-n",
            "client.rgw",
            "user",
            "create",
            "--uid=acceptance",
            "--display-name=acceptance",
            *keys,
        )

    def _start_gateway(self) -> None:
        gateway = self._spawn("radosgw", "-n", "client.rgw")
        deadline = time.monotonic() + STARTS_IN_SECONDS
        while time.monotonic() < deadline and gateway.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.endpoint_url, timeout=5).is_success:
                    return
            time.sleep(0.05)
        raise StartError(self._last_words())

    def _run(self, *command: str) -> None:
        """Run one of Ceph's tools to its end, or say why it did not come there."""
        try:
            subprocess.run(
                command,
                env=self._environment(),
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=STARTS_IN_SECONDS,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stdout or b"").decode(errors="replace")
            raise StartError(f"{error}\n{said}\n{self._last_words()}") from error

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a daemon that ends with this process, however this process ends."""
        daemon = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", program, "--foreground", *arguments),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._daemons[program] = daemon
        return daemon

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self._configuration)}

    def _last_words(self) -> str:
        ended = [
            f"{name} ended with {daemon.poll()}" for name, daemon in self._daemons.items() if daemon.poll() is not None
        ]
        logs = [
            f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            for log in sorted(self._home.glob("*.log"))
        ]
        return "\n".join(ended + logs)


def _free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nothing listens now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def main() -> None:
    """Print where the gateway answers and with which keys, and run until standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with CephRGW() as ceph:
        for name in ("endpoint_url", "region", "access_key", "secret_key"):
            sys.stdout.write(f"{name}={getattr(ceph, name)}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
