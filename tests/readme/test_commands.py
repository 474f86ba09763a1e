"""What the guides tell an operator to type, set and look at is there: commands, options, settings, metrics, files."""

import re
from pathlib import Path

import pytest
import typer

from broker.cli.commands import app
from broker.settings import Settings, environment_name
from tests.support.processes import ROOT
from tests.support.queries import series

GUIDES = ("README.md", "SECURITY.md", "infra/README.md", "infra/clients.md", "tests/bench/README.md")
SETUPS = ("infra/Dockerfile", "infra/compose.yaml", "infra/broker.service", "infra/broker-worker.service")
OF_CLIENTS = {"BROKER_URL", "BROKER_TOKEN"}
"""What `broker upload` reads."""

each_guide = pytest.mark.parametrize("name", GUIDES)
each_text = pytest.mark.parametrize("name", GUIDES + SETUPS)


def _text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def _code(text: str) -> list[str]:
    """Return the lines that a guide gives a shell, and its words in code."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.splitlines()] + spans


def wrong_in(line: str) -> list[str]:
    """Return which command or options of a `broker …` in a line there are not."""
    found = re.search(r"(?:^|[\s/;=])broker((?: [\w./-]+)+)", line)
    if found is None:
        return []
    words = found[1].split()
    command = typer.main.get_command(app)
    while words and (inner := getattr(command, "commands", {})):
        if words[0] not in inner:
            return [words[0]]
        command = inner[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return [word for word in words if word.startswith("--") and word not in options]


@each_guide
def test_each_command_and_its_options_are_there(name: str) -> None:
    assert [line for line in _code(_text(name)) if not line.startswith("docker ") and wrong_in(line)] == []


def test_a_command_that_is_not_there_would_be_seen() -> None:
    assert wrong_in("A=b broker serve --workers 4 --forwarded-from 10.0.0.0/8") == ["--forwarded-from"]
    assert wrong_in("broker webhooks burn") == ["burn"]
    assert wrong_in(".venv/bin/broker upload --url x") == []


@each_text
def test_each_setting_is_there(name: str) -> None:
    known = {environment_name(field) for field in Settings.model_fields} | OF_CLIENTS
    assert set(re.findall(r"\b(?:BROKER|AWS_S3)_[A-Z0-9_]*[A-Z0-9]\b(?!_?…)", _text(name))) <= known


@each_guide
def test_each_metric_is_there(name: str) -> None:
    assert set(re.findall(r"`(broker_[a-z_]+)`", _text(name))) <= series().keys()


@each_guide
def test_each_target_of_make_is_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", _text("Makefile"), re.MULTILINE))
    assert {found for line in _code(_text(name)) for found in re.findall(r"^make ([a-z]+)", line)} <= targets


@each_guide
def test_each_file_that_is_linked_is_there(name: str) -> None:
    folder = (ROOT / name).parent
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _text(name))
    assert [one for one in linked if not Path(folder, one).exists()] == []
