"""structlog without Rich, to be imported for this effect before structlog is.

structlog loads Rich, and with it Pygments, to draw tracebacks on a terminal. Ours are written before a renderer sees
them (`logs.py`), so that a server would only hold them in memory. A module that is None among the loaded ones is one
that can not be imported. Source: The Python Language Reference, "The module cache".
"""

import sys

if not {"rich", "structlog"} & sys.modules.keys():
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
