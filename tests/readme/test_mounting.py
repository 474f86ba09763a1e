"""The broker in an application of one's own, as the guide says, word for word but for the ports."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.readme.blocks import commands
from tests.support.npm import program
from tests.support.processes import CLIP, ROOT, environment, running

GUIDE = (ROOT / "infra" / "guides" / "mounting.md").read_text("utf-8")


def free_port() -> int:
    """Return a port on which no program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_the_mounted_broker_runs_beside_the_local_s3(tmp_path: Path) -> None:
    ports = {"9000": str(free_port()), "8001": str(free_port())}

    def block(script: str) -> str:
        return re.sub(r"\b(9000|8001)\b", lambda match: ports[match[1]], script)

    (tmp_path / "app.py").write_text(GUIDE.partition("<!-- mounted -->\n```python\n")[2].partition("```\n")[0])
    (tmp_path / "tests" / "data").mkdir(parents=True)
    (tmp_path / "tests" / "data" / "clip.mp4").write_bytes(CLIP.read_bytes())
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    bash = (program("bash"), "-euo", "pipefail", "-c")
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    s3 = block(commands("infra/guides/mounting.md", "s3"))
    serve = block(commands("infra/guides/mounting.md", "serve"))
    with running(s3, cwd=tmp_path, program=bash, PATH=path) as storage:
        storage.wait_for("BROKER_S3_PATH_STYLE=true")
        with running(serve, cwd=tmp_path, program=bash, PATH=path) as shop:
            address = shop.wait_for(r"running on (http://127\.0\.0\.1:\d+)")[1]
            assert httpx.get(address).json() == {"hello": "world"}
            upload = subprocess.run(
                [*bash, block(commands("infra/guides/mounting.md", "upload"))],
                cwd=tmp_path,
                env=environment(tmp_path, PATH=path),
                capture_output=True,
                text=True,
                check=False,
            )
    assert upload.returncode == 0, upload.stderr
    assert upload.stdout.startswith(f"http://127.0.0.1:{ports['9000']}/videos/media/")
