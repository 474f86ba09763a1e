"""Faults that can be known at the start, named before a process is started: status 2, one line for each cause."""

import json
import socket
from pathlib import Path

import pytest

from tests.support.processes import done

VALID = {
    "SECRET_KEY": "an operator's secret of more than 32 bytes",
    "AWS_S3_BUCKET_NAME": "videos",
    "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
    "AWS_SECRET_ACCESS_KEY": "of another",
}
WRONG = pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"BROKER_JWT_PUBLIC_KEY": "absent.pem"}, "BROKER_JWT_PUBLIC_KEY: should be a PEM public key, or the path of"),
        ({"AWS_S3_BUCKET_NAME": "arn:aws:s3:eu-west-1:1:accesspoint/x"}, "AWS_S3_BUCKET_NAME: should be the name of"),
        ({"AWS_S3_REGION": "garage"}, "AWS_S3_REGION: should be a region of AWS"),
        ({"BROKER_PROBE": "true", "BROKER_PROBE_PROGRAM": "absent"}, "BROKER_PROBE: needs ffprobe"),
        ({"BROKER_RATE_LIMIT_STORAGE": "redis://:hidden@h?ssl=true"}, "BROKER_RATE_LIMIT_STORAGE: should have only"),
        ({"SECRET_KEY": "", "SECRET_KEY_FILE": "absent"}, "SECRET_KEY_FILE: cannot be read: No such file or directory"),
    ],
)


@pytest.mark.parametrize("command", ["serve --port 0 --workers 1", "serve --port 0 --workers 2", "worker"])
@WRONG
def test_a_wrong_setting_ends_each_command_before_it_starts(
    tmp_path: Path, postgresql_url: str, command: str, variables: dict[str, str], line: str
) -> None:
    environment = VALID | {"BROKER_DATABASE_URL": postgresql_url} | variables
    assert done("migrate", cwd=tmp_path, BROKER_DATABASE_URL=postgresql_url).returncode == 0
    refused = done(*command.split(), cwd=tmp_path, **environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith(line)
    assert len([cause for cause in refused.stderr.splitlines() if cause.split(":")[0] != "SECRET_KEY"]) == 1
    assert "Traceback" not in refused.stdout + refused.stderr


def test_the_doctor_reports_a_key_that_is_not_there(tmp_path: Path) -> None:
    refused = done("doctor", cwd=tmp_path, **VALID | {"BROKER_JWT_PUBLIC_KEY": "absent.pem"})
    assert refused.returncode == 2
    assert refused.stderr.startswith("BROKER_JWT_PUBLIC_KEY: should be a PEM public key")


@pytest.mark.parametrize(
    "command",
    [
        "media list",
        "media show 0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a",
        "media delete --yes 0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a",
        "erase ann --yes",
        "webhooks list",
        "webhooks retry",
    ],
)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_database_without_tables_is_to_be_migrated(
    command: str, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told = VALID | {"BROKER_WEBHOOK_URLS": "https://hooks.example/", "BROKER_WEBHOOK_SECRETS": f"whsec_{'A' * 32}"}
    if database == "postgresql":
        told["BROKER_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    refused = done(*command.split(), cwd=tmp_path, **told)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith("BROKER_DATABASE_URL: lacks revision ")
    assert line.endswith("; run `broker migrate` first")
    assert list(tmp_path.glob("*.db")) == []


@pytest.mark.parametrize("command", ["serve", "dev", "dev --s3-only"])
@pytest.mark.parametrize("port", ["-5", "65536"])
def test_a_port_that_no_machine_has_is_refused(command: str, port: str, tmp_path: Path) -> None:
    refused = done(*command.split(), "--port", port, cwd=tmp_path, **VALID)
    assert refused.returncode == 2
    assert "Invalid value for '--port'" in refused.stderr


def test_a_port_of_metrics_that_is_taken_is_named(tmp_path: Path) -> None:
    assert done("migrate", cwd=tmp_path).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = done("worker", cwd=tmp_path, **VALID | {"BROKER_WORKER_METRICS_PORT": port})
    assert refused.returncode == 2
    assert refused.stderr.endswith("cannot be used: Address already in use\n")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_misspelt_setting_is_a_warning_at_the_start(tmp_path: Path, command: str) -> None:
    unmigrated = done(command, cwd=tmp_path, **VALID | {"BROKER_QUOTA_MEDIA": "5"})
    assert unmigrated.stderr.startswith("BROKER_DATABASE_URL: lacks revision")
    (line,) = (json.loads(line) for line in unmigrated.stdout.splitlines() if "BROKER_QUOTA" in line)
    said = {name: line[name] for name in ("level", "event", "variable", "meant")}
    assert said == {
        "level": "warning",
        "event": "no setting has this name",
        "variable": "BROKER_QUOTA_MEDIA",
        "meant": "BROKER_QUOTA_MEDIA_COUNT",
    }


def test_a_service_of_kubernetes_changes_no_command(tmp_path: Path) -> None:
    link = {"BROKER_PORT": "tcp://10.96.14.2:8000", "BROKER_WORKER_METRICS_PORT": "tcp://10.96.14.2:9100"}
    unmigrated = done("serve", cwd=tmp_path, **VALID | link)
    assert unmigrated.stderr.startswith("BROKER_DATABASE_URL: lacks revision")
    assert done("migrate", cwd=tmp_path, **link).returncode == 0
    assert done("token", cwd=tmp_path, **VALID | link).returncode == 0
