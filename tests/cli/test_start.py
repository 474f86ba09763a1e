"""Faults that can be known at the start, named before a process is started: status 2, one line for each cause."""

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


def test_a_port_of_metrics_that_is_taken_is_named(tmp_path: Path) -> None:
    assert done("migrate", cwd=tmp_path).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = done("worker", cwd=tmp_path, **VALID | {"BROKER_WORKER_METRICS_PORT": port})
    assert refused.returncode == 2
    assert refused.stderr.endswith("cannot be used: Address already in use\n")


def test_a_service_of_kubernetes_changes_no_command(tmp_path: Path) -> None:
    link = {"BROKER_PORT": "tcp://10.96.14.2:8000", "BROKER_WORKER_METRICS_PORT": "tcp://10.96.14.2:9100"}
    unmigrated = done("serve", cwd=tmp_path, **VALID | link)
    assert unmigrated.stderr.startswith("BROKER_DATABASE_URL: lacks revision")
    assert done("migrate", cwd=tmp_path, **link).returncode == 0
    assert done("token", cwd=tmp_path, **VALID | link).returncode == 0
