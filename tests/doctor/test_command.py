"""`broker doctor` as an operator runs it: a table with fixes, or JSON, and an exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor.answering import answering
from tests.doctor.deployed import Deployed

ROOT = Path(__file__).resolve().parents[2]
SECRET = "an operator's secret of more than 32 bytes"


def doctor(on: Deployed, *options: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in the deployment's folder, with its environment."""
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
        "SECRET_KEY": SECRET,
        "AWS_ACCESS_KEY_ID": on.server.access_key,
        "AWS_SECRET_ACCESS_KEY": on.server.secret_key,
        "AWS_S3_BUCKET_NAME": on.bucket,
        "AWS_S3_REGION": on.server.region,
        "BROKER_S3_ENDPOINT_URL": on.server.endpoint_url,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_CORS_ORIGINS": "https://app.example,https://admin.example",
        "BROKER_DATABASE_URL": on.database_url,
    }
    return subprocess.run(
        [sys.executable, "-m", "broker", "doctor", *options],
        cwd=on.folder,
        env=variables | changes,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_healthy_deployment_ends_with_status_0(deployed: Deployed) -> None:
    ran = doctor(deployed)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "fix:" not in ran.stdout
    assert ran.stdout.splitlines()[-1].endswith(" ok")


def test_a_fault_ends_with_status_1_and_a_fix_in_one_line(deployed: Deployed) -> None:
    deployed.remove("bucket_cors")
    ran = doctor(deployed)
    assert (ran.returncode, ran.stderr) == (1, "")
    fixes = [line for line in ran.stdout.splitlines() if line.startswith("  fix:")]
    assert len(fixes) == 1
    assert f"aws s3api put-bucket-cors --bucket {deployed.bucket} --cors-configuration '" in fixes[0]
    assert fixes[0].endswith(f"--endpoint-url {deployed.server.endpoint_url}")


def test_json_is_one_document(deployed: Deployed) -> None:
    ran = doctor(deployed, "--json", BROKER_PUBLIC_URL="http://api.example")
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["success"], told["counts"]["fail"], told["counts"]["warn"]) == (0, True, 0, 1)
    warned = next(finding for finding in told["findings"] if finding["verdict"] == "warn")
    assert (warned["check"], warned["fix"]) == ("environment", "export BROKER_PUBLIC_URL=https://api.example")


def test_a_misspelt_variable_is_a_warning_with_the_setting_that_is_meant(deployed: Deployed) -> None:
    ran = doctor(deployed, "--json", BROKER_QUOTA_MEDIA="5", BROKER_COLOUR="red")
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["counts"]["fail"], told["counts"]["warn"]) == (0, 0, 1)
    warned = next(finding for finding in told["findings"] if finding["verdict"] == "warn")
    assert warned["check"] == "environment"
    assert warned["detail"] == "no setting has the name BROKER_COLOUR, BROKER_QUOTA_MEDIA"
    assert warned["fix"] == (
        "unset BROKER_COLOUR BROKER_QUOTA_MEDIA  # set BROKER_QUOTA_MEDIA_COUNT in place of BROKER_QUOTA_MEDIA"
    )


def test_json_is_one_document_if_s3_refuses_the_broker(deployed: Deployed) -> None:
    with answering(403) as store:
        public = {"BROKER_S3_PUBLIC_ENDPOINT_URL": deployed.server.endpoint_url}
        ran = doctor(deployed, "--json", BROKER_S3_ENDPOINT_URL=store, **public)
    assert (ran.returncode, json.loads(ran.stdout)["success"]) == (1, False)
    assert "s3 failed" in ran.stderr
    assert deployed.server.secret_key not in ran.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MAX_FILE_SIZE": "six", "AWS_S3_BUCKET_NAME": ""}, ["MAX_FILE_SIZE", "AWS_S3_BUCKET_NAME"]),
        ({"USE_CLOUD_STORAGE": "false"}, ["USE_CLOUD_STORAGE"]),
    ],
)
def test_settings_that_are_not_valid_end_with_status_2(
    deployed: Deployed, variables: dict[str, str], words: list[str]
) -> None:
    ran = doctor(deployed, **variables)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert sorted(line.partition(":")[0] for line in ran.stderr.splitlines()) == sorted(words)


def test_no_secret_is_shown(deployed: Deployed) -> None:
    away = "postgresql://broker:a-password-of-ours@127.0.0.1:1/broker"
    redis = "redis://:another-password@127.0.0.1:1/0"
    ran = doctor(deployed, "--json", BROKER_DATABASE_URL=away, BROKER_RATE_LIMIT_STORAGE=redis)
    assert ran.returncode == 1
    for secret in (SECRET, deployed.server.secret_key, "a-password-of-ours", "another-password"):
        assert secret not in ran.stdout + ran.stderr
