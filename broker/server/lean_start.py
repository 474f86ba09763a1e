"""What a server does before it loads the rest, so that it holds less of it in memory. Import it first, for its effects.

A module that is None among the loaded ones is one that cannot be imported. Source: The Python Language Reference, "The
module cache".
"""

import sys
from importlib import import_module

from pydantic import BaseModel

from broker.aws.session import read_ahead


def _load_structlog_without_rich() -> None:
    """Leave Rich out, and Pygments with it, by which structlog draws tracebacks on a terminal.

    Ours are written before a renderer sees them (`logs.py`).
    """
    if not {"rich", "structlog"} & sys.modules.keys():
        sys.modules["rich"] = None  # type: ignore[assignment]
        try:
            import_module("structlog")
        finally:
            del sys.modules["rich"]


def _leave_out_the_first_pydantic() -> None:
    """Spare FastAPI the copy of pydantic 1 that it loads to find out whether a model is one of those; none is."""
    sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]


def _load_fastapi_with_its_models_unbuilt() -> None:
    """Let pydantic build FastAPI's models of an OpenAPI document when somebody asks for the document."""
    config = BaseModel.model_config
    BaseModel.model_config = {**config, "defer_build": True}
    try:
        import_module("fastapi")
    finally:
        BaseModel.model_config = config


# What reading takes beside what it keeps, some megabytes, is free again for all that is loaded afterwards.
read_ahead()
_load_structlog_without_rich()
_leave_out_the_first_pydantic()
_load_fastapi_with_its_models_unbuilt()
