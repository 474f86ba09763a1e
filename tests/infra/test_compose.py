"""infra/compose.yaml and the systemd units: hardened, valid, and without default secrets."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.settings import Settings, environment_name
from tests.infra.programs import require

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = INFRA / "compose.yaml"
RULES = (
    "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
    "comments: {min-spaces-from-content: 1}}}"
)
SECRETS = ("SECRET_KEY", "PGPASSWORD", "POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
OURS = ["broker", "worker", "migrate", "s3"]
UNITS = pytest.mark.parametrize("unit", ["broker.service", "broker-worker.service"])
EXPOSURE = 20
"""The highest accepted score of `systemd-analyze security`, in tenths; 100 is a unit without any hardening."""


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def test_yamllint_finds_nothing() -> None:
    lint = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", "-d", RULES, COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (lint.stdout, lint.returncode) == ("", 0)


def test_no_secret_has_a_default() -> None:
    values = [
        (name, value)
        for service in _services().values()
        for name, value in service.get("environment", {}).items()
        if name in SECRETS
    ]
    assert {name for name, _ in values} == set(SECRETS)
    assert [name for name, value in values if not re.fullmatch(r"\$\{\w+:\?[^}]+\}", value)] == []


def test_every_setting_is_one_of_the_brokers() -> None:
    known = {environment_name(field) for field in Settings.model_fields} | {"PGPASSWORD"}
    assert _services()["broker"]["environment"].keys() <= known


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_a_read_only_root_and_no_capabilities(name: str) -> None:
    service = _services()[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_listens_beyond_this_machine() -> None:
    ports = [port for service in _services().values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_each_service_that_others_wait_for_has_a_health_check() -> None:
    services = _services()
    waited = {
        needed
        for service in services.values()
        for needed, dependency in service.get("depends_on", {}).items()
        if dependency["condition"] == "service_healthy"
    }
    assert waited == {"postgres", "redis", "s3"}
    assert all("test" in services[name]["healthcheck"] for name in waited)


def test_it_builds_stages_that_the_dockerfile_has() -> None:
    stages = re.findall(r"^FROM .* AS (\S+)$", (INFRA / "Dockerfile").read_text(), re.MULTILINE)
    targets = {service["build"]["target"] for service in _services().values() if "build" in service}
    assert targets == {"broker", "embedded-s3"}
    assert targets <= set(stages)


@UNITS
def test_systemd_rates_the_units_as_little_exposed(unit: str) -> None:
    require("systemd-analyze")
    analysis = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", INFRA / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert analysis.returncode == 0, analysis.stdout[-300:] + analysis.stderr


@UNITS
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    require("systemd-analyze")
    # The program of the unit is not installed here, so this Python stands in for it.
    text = (INFRA / unit).read_text().replace("/opt/broker/bin/broker", sys.executable)
    (tmp_path / unit).write_text(text)
    verification = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit], capture_output=True, text=True, check=False
    )
    assert unit not in verification.stderr
