"""A session of botocore's that keeps in memory only what the broker needs of AWS's own description.

botocore is what boto3 stands on. What boto3 adds, objects for resources and transfers of files by threads, would only
be held in memory here: the bytes of a video never pass.

botocore reads the description of a whole service with all its prose, and the endpoints of every service there is, and
holds on to it as long as the session lives: eleven megabytes, of which this leaves one.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from gzip import open as open_gzip
from typing import Any

from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session, get_session

SERVICES = frozenset({"s3", "sqs", "sts", "oidc", "portal.sso", "signin"})
"""Whose endpoints are kept: those that the broker asks, and those that botocore asks for credentials."""
OPERATIONS = frozenset(
    {"CopyObject", "DeleteObject", "GetObject", "HeadBucket", "HeadObject", "ListObjectVersions"}
) | {
    "CreateBucket",  # by which botocore finds the address of a form
    "CreateSession",  # by which it gets the keys of a directory bucket
}
"""Those of S3's that the broker has use for; the doctor has use for more."""
_OPEN: dict[str, Callable[..., Any]] = {".json": open, ".json.gz": open_gzip}


class LeanFiles(JSONFileLoader):  # type: ignore[misc]
    """Read files as botocore does, but no prose, and a word that they repeat once; of the rules of endpoints, whatever
    they repeat.

    These rules are never written into. Of other descriptions botocore changes parts, so that none of theirs are shared.
    """

    def load_file(self, file_path: str) -> Any:
        """Return what the file holds, or None where there is none; `file_path` lacks its ending."""
        for ending, open_file in _OPEN.items():
            if os.path.isfile(file_path + ending):
                with open_file(file_path + ending, "rb") as file:
                    data = _without_prose(file.read())
                return _sharing(data, {}) if file_path.endswith("endpoint-rule-set-1") else data
        return None


class LeanLoader(Loader):  # type: ignore[misc]
    """Load what botocore loads, and forget the endpoints of services and the operations of S3 that nobody here asks.

    `operations`: those that are not forgotten; None: all are kept.
    """

    FILE_LOADER_CLASS = LeanFiles

    def __init__(self, search_paths: list[str] | None = None, *, operations: frozenset[str] | None = None) -> None:
        super().__init__(search_paths)
        self._operations = operations

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        """Return what botocore calls `name`, and the path where it was found."""
        data, path = super().load_data_with_path(name)
        if name == "endpoints":
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {one: services[one] for one in services if one in SERVICES}
        elif self._operations is not None and name.startswith("s3/") and name.endswith("/service-2"):
            _keep_operations(data, self._operations)
        return data, path


def aws_session(operations: frozenset[str] | None = OPERATIONS) -> Session:
    """Return a session with the ordinary chain of credentials; those with the same `operations` share what they read.

    `operations`: those that its clients of S3 have; None: all.
    """
    session = get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path"), operations))
    return session


def read_ahead() -> None:
    """Read what a client of S3 is made of, for all sessions to come; where that fails, they will say so."""
    with suppress(Exception):
        loader = aws_session().get_component("data_loader")
        for name in ("endpoints", "partitions"):
            loader.load_data(name)
        for kind in ("service-2", "endpoint-rule-set-1"):
            loader.load_service_model("s3", kind)


@cache
def _loader(search_path: str | None, operations: frozenset[str] | None) -> LeanLoader:
    """Return a loader that looks where AWS_DATA_PATH says, too. Source: botocore's `create_loader`."""
    paths = search_path.split(os.pathsep) if search_path else []
    return LeanLoader([os.path.expanduser(os.path.expandvars(path)) for path in paths], operations=operations)


def _without_prose(document: bytes) -> Any:
    words: dict[str, str] = {}

    def kept(name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return "" if name == "documentation" else words.setdefault(value, value)

    return json.loads(document, object_pairs_hook=lambda members: {name: kept(name, value) for name, value in members})


def _sharing(part: Any, known: dict[tuple[Any, ...], Any]) -> Any:
    """Return an equal description in which equal parts are the same one; nobody may change it.

    `known`: the parts so far, by what they consist of. S3's rules ask a few questions hundreds of times.
    """
    if isinstance(part, dict):
        part = {name: _sharing(value, known) for name, value in part.items()}
        return known.setdefault((dict, *((name, id(value)) for name, value in part.items())), part)
    if isinstance(part, list):
        part = [_sharing(each, known) for each in part]
        return known.setdefault((list, *map(id, part)), part)
    return known.setdefault((type(part), part), part)


def _keep_operations(service: dict[str, Any], wanted: frozenset[str]) -> None:
    """Leave of a service's description `wanted` and the shapes that their inputs, outputs and errors are made of."""
    service["operations"] = {name: one for name, one in service["operations"].items() if name in wanted}
    shapes, reached = service["shapes"], set[str]()
    unread = set(_shapes_named(service["operations"]))
    while unread:
        reached |= unread
        unread = {name for one in unread for name in _shapes_named(shapes[one])} - reached
    service["shapes"] = {name: shape for name, shape in shapes.items() if name in reached}


def _shapes_named(part: Any) -> Iterator[str]:
    """Name the shapes that a part of the description refers to."""
    if isinstance(part, list):
        for each in part:
            yield from _shapes_named(each)
    elif isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        for each in part.values():
            yield from _shapes_named(each)
