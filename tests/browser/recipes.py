"""The recipes of the guides, extracted unchanged."""

import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.support.stack import SECRET

INFRA = Path(__file__).parents[2] / "infra"
CLIENTS = INFRA / "clients.md"
APPLICATION = INFRA / "guides" / "application.md"


def recipe(heading: str, language: str = "js", *, guide: Path = CLIENTS) -> list[str]:
    """Return the code blocks of one language under a heading of a guide, up to the next heading."""
    text = guide.read_text("utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{guide} has no heading {heading}"
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


def variables(broker: str) -> dict[str, str]:
    """Return the environment of a backend that asks the broker at this address."""
    return {"BROKER_URL": broker, "SECRET_KEY": SECRET, "SESSION_SECRET": "a secret of the sessions, long enough"}


def loaded(broker: str, folder: Path, heading: str) -> Any:
    """Import a recipe in Python, and return its application."""
    (code,) = recipe(heading, "python", guide=APPLICATION)
    path = folder / "backend.py"
    path.write_text(code)
    spec = spec_from_file_location(f"backend_of_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with patch.dict(os.environ, variables(broker)):
        spec.loader.exec_module(module)
    return module.app
