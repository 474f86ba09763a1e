"""A session of boto3's that keeps in memory only what the broker needs of AWS's own description.

botocore reads the description of a whole service with all its prose, and the endpoints of every service there is, and
holds on to it as long as the session lives: eleven megabytes, of which this leaves two.
"""

import json
import os
from collections.abc import Callable
from functools import cache
from gzip import open as open_gzip
from sys import intern
from typing import Any

import boto3
import botocore.session
from botocore.loaders import JSONFileLoader, Loader

SERVICES = frozenset({"s3", "sqs", "sts", "oidc", "portal.sso", "signin"})
"""Whose endpoints are kept: those that the broker asks, and those that botocore asks for credentials."""
_OPEN: dict[str, Callable[..., Any]] = {".json": open, ".json.gz": open_gzip}


class LeanFiles(JSONFileLoader):  # type: ignore[misc]
    """Read files as botocore does, but no prose, and a word that they repeat once."""

    def load_file(self, file_path: str) -> Any:
        """Return what the file holds, or None where there is none; `file_path` lacks its ending."""
        for ending, open_file in _OPEN.items():
            if os.path.isfile(file_path + ending):
                with open_file(file_path + ending, "rb") as file:
                    return json.loads(file.read(), object_pairs_hook=_lean)
        return None


class LeanLoader(Loader):  # type: ignore[misc]
    """Load what botocore loads, and forget the endpoints of services that nobody here asks."""

    FILE_LOADER_CLASS = LeanFiles

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        """Return what botocore calls `name`, and the path where it was found."""
        data, path = super().load_data_with_path(name)
        if name == "endpoints":
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {one: services[one] for one in services if one in SERVICES}
        return data, path


def aws_session() -> boto3.Session:
    """Return a session with the ordinary chain of credentials; all share what they read."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return boto3.Session(botocore_session=session)


@cache
def _loader(search_path: str | None) -> LeanLoader:
    """Return a loader that looks where AWS_DATA_PATH says, too. Source: botocore's `create_loader`."""
    paths = search_path.split(os.pathsep) if search_path else []
    return LeanLoader([os.path.expanduser(os.path.expandvars(path)) for path in paths])


def _lean(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: _kept(name, value) for name, value in members}


def _kept(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return "" if name == "documentation" else intern(value)
