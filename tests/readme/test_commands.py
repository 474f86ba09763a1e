"""The guides name only commands, options, settings, metrics, make targets and files that exist."""

import re
from pathlib import Path

import pytest
import typer

from broker.cli.commands import app
from broker.settings import Settings, environment_name
from broker.store.migration import VERSION_TABLE
from broker.store.schema import METADATA
from tests.readme.blocks import GUIDES
from tests.support.processes import ROOT
from tests.support.queries import series

SETUPS = ("infra/Dockerfile", "infra/compose.yaml", "infra/broker.service", "infra/broker-worker.service")
OTHERS = {"BROKER_URL", "BROKER_TOKEN", "BROKER_DEV_S3_KEYS"}
"""Variables of one command each, that are no settings."""

OTHER_PROGRAMS = ("docker ", "systemctl ")
"""Programs whose arguments hold the name of a service or an image, `broker`, too."""

each_guide = pytest.mark.parametrize("name", GUIDES)
each_text = pytest.mark.parametrize("name", GUIDES + SETUPS)


def _text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def _code(text: str) -> list[str]:
    """Return the shell lines and the inline code of a guide."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.splitlines()] + spans


def unknown_in(line: str) -> list[str]:
    """Return the unknown command or options of a `broker …` command in a line."""
    match = re.search(r"(?:^|[\s/;=])broker((?: [\w./-]+)+)", line)
    if match is None:
        return []
    words = match[1].split()
    command = typer.main.get_command(app)
    while words and (inner := getattr(command, "commands", {})):
        if words[0] not in inner:
            return [words[0]]
        command = inner[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return [word for word in words if word.startswith("--") and word not in options]


@each_guide
def test_each_command_and_option_exists(name: str) -> None:
    assert [line for line in _code(_text(name)) if not line.startswith(OTHER_PROGRAMS) and unknown_in(line)] == []


def test_an_unknown_command_or_option_is_detected() -> None:
    assert unknown_in("A=b broker serve --workers 4 --forwarded-from 10.0.0.0/8") == ["--forwarded-from"]
    assert unknown_in("broker webhooks burn") == ["burn"]
    assert unknown_in(".venv/bin/broker upload --url x") == []


@each_text
def test_each_setting_exists(name: str) -> None:
    of_tests = {
        match
        for path in (ROOT / "tests").rglob("*.py")
        for match in re.findall(r'"(BROKER_TEST_\w+)"', path.read_text("utf-8"))
    }
    known = {environment_name(field) for field in Settings.model_fields} | OTHERS | of_tests
    assert set(re.findall(r"\b(?:BROKER|AWS_S3)_[A-Z0-9_]*[A-Z0-9]\b(?!_?…)", _text(name))) <= known


@each_guide
def test_each_metric_and_each_table_exists(name: str) -> None:
    assert set(re.findall(r"`(broker_[a-z_]+)`", _text(name))) <= {*series(), *METADATA.tables, VERSION_TABLE}


@each_guide
def test_each_make_target_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", _text("Makefile"), re.MULTILINE))
    assert {target for line in _code(_text(name)) for target in re.findall(r"^make ([a-z]+)", line)} <= targets


@each_guide
def test_each_linked_file_exists(name: str) -> None:
    folder = (ROOT / name).parent
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _text(name))
    assert [path for path in linked if not Path(folder, path).exists()] == []
