"""What the image installs: pinned, hashed, without addresses, and in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PIN = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+?)(?: ; (?P<marker>[^\\]+?))? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+",
    re.MULTILINE,
)

FILES = pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-build.txt"])


def _text(name: str) -> str:
    return (REPOSITORY / "infra" / name).read_text()


@FILES
def test_every_line_is_part_of_a_pin_with_its_hashes(name: str) -> None:
    left = PIN.sub("", _text(name))
    assert [line for line in left.splitlines() if line and not line.startswith("#")] == []


@FILES
def test_no_line_holds_an_address(name: str) -> None:
    assert re.findall(r"://|--index|--extra-index|--find-links", _text(name)) == []


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.txt", ["postgres", "redis"]), ("requirements-dev.txt", ["postgres", "redis", "dev"])],
)
def test_the_pins_fulfil_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    pins = {found["name"]: found["version"] for found in PIN.finditer(_text(name))}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    wrong = [one for one in map(Requirement, asked) if pins.get(canonicalize_name(one.name), "0") not in one.specifier]
    assert wrong == [], "run `make requirements`"
