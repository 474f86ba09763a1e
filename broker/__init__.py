"""A broker for direct-to-S3 uploads.

An app's users send video straight to S3. The broker decides who may, with a presigned POST policy; remembers what it
promised; checks what arrived with a HEAD; and hands out signed playback links. The bytes never pass through Python.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.app import create_app, create_router
    from broker.lifecycle.application.deciding import IssueAccepted, IssueRefused, IssueRequest
    from broker.settings import Settings, load_settings
    from broker.worker.ready_calls import ReadyMedia

__all__ = [
    "IssueAccepted",
    "IssueRefused",
    "IssueRequest",
    "ReadyMedia",
    "Settings",
    "create_app",
    "create_router",
    "load_settings",
]

_HOMES = {
    "IssueAccepted": "broker.lifecycle.application.deciding",
    "IssueRefused": "broker.lifecycle.application.deciding",
    "IssueRequest": "broker.lifecycle.application.deciding",
    "ReadyMedia": "broker.worker.ready_calls",
    "Settings": "broker.settings",
    "create_app": "broker.app",
    "create_router": "broker.app",
    "load_settings": "broker.settings",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `broker upload` and the embedded S3 need neither FastAPI nor botocore.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
