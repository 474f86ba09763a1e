"""The variables of the environment and of a `.env` file, as text, before any of them is validated."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values

FROM_FILE = "_FILE"
"""The suffix of a variable that names the file of a setting's value, as container platforms mount secrets."""
FALLBACKS = {"AWS_S3_REGION": ("AWS_REGION", "AWS_DEFAULT_REGION")}
"""The variables of AWS's own tools that a setting is taken from if it is not set itself."""
_PORT = "_PORT"
_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://\S+:\d+")
"""A value that Kubernetes gives to `<name>_PORT` for a Service of that name (its documentation, "Service")."""


class Variables:
    """The variables that are set: those of the environment, then those of a file. Names are read in any case."""

    def __init__(self, env_file: Path | None, environ: Mapping[str, str] = os.environ) -> None:
        self.problems: list[str] = []
        """A line for each variable that cannot be read."""
        self._values = {
            name.upper(): value
            for source in (self._of_file(env_file), environ)
            for name, value in source.items()
            if value and not (name.upper().endswith(_PORT) and _SERVICE_LINK.fullmatch(value))
        }

    def names(self) -> frozenset[str]:
        """Return the names of all variables that are set, in upper case."""
        return frozenset(self._values)

    def named(self, names: Iterable[str]) -> dict[str, str]:
        """Return the values of the settings that are set."""
        values = ((name, self._value(name)) for name in names)
        return {name: value for name, value in values if value is not None}

    def _value(self, name: str) -> str | None:
        file = self._values.get(f"{name}{FROM_FILE}")
        if file is None:
            return next((self._values[each] for each in (name, *FALLBACKS.get(name, ())) if each in self._values), None)
        if name in self._values:
            self.problems.append(f"{name}, {name}{FROM_FILE}: should not both be set")
            return None
        try:
            return Path(file).read_text("utf-8").strip("\r\n") or None
        except OSError as error:
            self.problems.append(f"{name}{FROM_FILE}: cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.problems.append(f"{name}{FROM_FILE}: should name a file in UTF-8")
        return None

    def _of_file(self, env_file: Path | None) -> dict[str, str]:
        if env_file is None or not env_file.is_file():
            return {}
        try:
            read = dotenv_values(env_file, encoding="utf-8-sig")  # some editors begin a file with a byte order mark
        except OSError as error:
            self.problems.append(f"{env_file}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self.problems.append(f"{env_file}: should be in UTF-8; line {line} is not")
        else:
            return {name: value for name, value in read.items() if value is not None}
        return {}
