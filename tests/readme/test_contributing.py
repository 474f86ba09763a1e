"""CONTRIBUTING describes the repository as it is: every path that it names exists, and its tree has every folder."""

import re

import pytest

from tests.support.processes import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PATHS = sorted(set(re.findall(r"`((?:broker|tests|infra|\.ci)/[\w./-]+)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_each_named_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_tree_names_every_folder_and_module_of_the_package() -> None:
    tree = TEXT.partition("```\n")[2].partition("```")[0]
    named = set(re.findall(r"^ +([\w.]+/?)  ", tree, re.MULTILINE))
    entries = [path for path in (ROOT / "broker").iterdir() if not path.name.startswith(("__", "."))]
    folders = [path for room in ("api", "domain", "lifecycle") for path in (ROOT / "broker" / room).glob("[!_]*/")]
    expected = {f"{path.name}/" if path.is_dir() else path.name for path in (*entries, *folders)}
    assert expected - named == {"py.typed"}
    assert named <= expected
