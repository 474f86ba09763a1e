"""The modules that a server loads: none that only other commands or unset settings need."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.processes import BROKER, Running, done, running

VALID = {
    "SECRET_KEY": "an operator's secret of more than 32 bytes",
    "AWS_S3_BUCKET_NAME": "videos",
    "AWS_S3_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE",
}
UNUSED = {"typer.rich_utils", "alembic", "httpx", "httpcore", "broker.doctor", "broker.dev"} | {
    "sqlalchemy.dialects.postgresql",
    "broker.store.indexes",
    "limits",
}


@pytest.mark.parametrize(("command", "started"), [("serve --port 0", "running on http"), ("worker", '"working"')])
def test_a_server_loads_what_it_uses(tmp_path: Path, command: str, started: str) -> None:
    assert done("migrate", cwd=tmp_path, **VALID).returncode == 0
    with running(*command.split(), cwd=tmp_path, program=BROKER, PYTHONVERBOSE="1", **VALID) as server:
        server.wait_for(started)
        loaded = loaded_by(server)
    assert {"structlog", "typer", "botocore.client", "broker.server.serve"} <= loaded
    assert loaded & UNUSED == set()


def test_settings_load_their_own_dependencies(tmp_path: Path) -> None:
    assert done("migrate", cwd=tmp_path, **VALID).returncode == 0
    asking = VALID | {
        "BROKER_JWKS_URL": "https://127.0.0.1:1/keys",
        "BROKER_WEBHOOK_URLS": "https://127.0.0.1:1/told",
        "BROKER_WEBHOOK_SECRETS": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "PYTHONVERBOSE": "1",
    }
    with running("serve", "--port", "0", cwd=tmp_path, program=BROKER, **asking) as server:
        server.wait_for("running on http")
        assert loaded_by(server) >= {"httpx", "httpcore", "broker.worker.webhooks"}
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.said


def test_the_openapi_document_is_built_on_the_first_request(tmp_path: Path) -> None:
    assert done("migrate", cwd=tmp_path, **VALID).returncode == 0
    with running("serve", "--port", "0", cwd=tmp_path, **VALID) as server:
        base = server.wait_for(r"running on (http://[^\s\"]+)").group(1)
        document = httpx.get(f"{base}/openapi.json").raise_for_status().json()
    answered = document["paths"]["/api/v1/s3-media/upload"]["post"]["responses"]["201"]["content"]["application/json"]
    assert answered["schema"] == {"$ref": "#/components/schemas/Issued"}


def test_no_validator_is_built_for_the_document_only() -> None:
    program = (
        "import broker.server.serve\n"
        "from broker.api.schemas import Alive, UploadBody\n"
        "from broker.settings.worker import WorkerSettings\n"
        "print([model.__pydantic_complete__ for model in (Alive, WorkerSettings, UploadBody)])\n"
        "from broker.api.routes import media, uploads\n"
        "print({type(one).__name__ for one in (uploads._ISSUED, media._PLAYBACK, media._MEDIA_LIST, media._DELETED)})\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == ["[False, False, True]", "{'SchemaSerializer'}"]


def loaded_by(server: Running) -> set[str]:
    """Return the modules that it said it loaded."""
    return set(re.findall(r"^import '([\w.]+)' #", server.said, re.MULTILINE))
