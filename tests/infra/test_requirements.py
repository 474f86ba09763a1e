"""The image's requirements: pinned, hashed, without addresses, and consistent with pyproject.toml."""

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
    rest = PIN.sub("", _text(name))
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []


@FILES
def test_no_line_holds_an_address(name: str) -> None:
    assert re.findall(r"://|--index|--extra-index|--find-links", _text(name)) == []


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.txt", ["postgres", "redis"]), ("requirements-dev.txt", ["postgres", "redis", "dev"])],
)
def test_the_pins_satisfy_the_requirements_of_the_project(name: str, extras: list[str]) -> None:
    pins = {pin["name"]: pin["version"] for pin in PIN.finditer(_text(name))}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    required = map(Requirement, [*project["dependencies"], *(line for extra in extras for line in optional[extra])])
    wrong = [item for item in required if pins.get(canonicalize_name(item.name), "0") not in item.specifier]
    assert wrong == [], "run `make requirements`"
