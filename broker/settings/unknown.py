"""Variables that are named like a setting, but that nothing reads, such as a misspelt one."""

import re
from difflib import get_close_matches
from pathlib import Path

from broker.settings.environment import FROM_FILE, Variables
from broker.settings.settings import Settings, environment_name

PREFIX = "BROKER_"
OPTIONS = frozenset({"BROKER_DEV_S3_KEYS", "BROKER_TOKEN", "BROKER_UPLOAD_STATE", "BROKER_URL"})
"""The variables that commands take in place of an option."""
SERVICE = re.compile(r".*_SERVICE_HOST|.*_SERVICE_PORT(_.+)?|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
"""The names of Kubernetes' variables for a Service, beside `<name>_PORT` (its documentation, "Service")."""
CLOSE = 0.8
"""How similar two names are at least (difflib's ratio) if one is probably meant by the other."""


def unknown_variables(env_file: Path | None = Path(".env")) -> dict[str, str | None]:
    """Return the unknown variables whose name begins with `BROKER_`, each with the setting that is probably meant."""
    settings = {environment_name(field) for field in Settings.model_fields}
    known = settings | {f"{name}{FROM_FILE}" for name in settings}
    return {
        name: _meant(name, settings, known)
        for name in sorted(Variables(env_file).names() - known - OPTIONS)
        if name.startswith(PREFIX) and not SERVICE.fullmatch(name)
    }


def _meant(name: str, settings: set[str], known: set[str]) -> str | None:
    bare = name.removeprefix(PREFIX)
    if bare in settings:  # SECRET_KEY and the like have no prefix
        return bare
    return next(iter(get_close_matches(name, known, n=1, cutoff=CLOSE)), None)
