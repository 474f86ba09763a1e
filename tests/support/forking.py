"""Commands of the broker in processes that are forked from one that has imported everything.

Of the 0.85 s of processor time that `broker migrate` takes, 0.7 s are its imports.
"""

import atexit
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from broker.cli.commands import app

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.support.warm"])


def fork(
    arguments: Sequence[str], *, cwd: Path, variables: Mapping[str, str], outputs: Mapping[int, Connection | Path]
) -> ForkServerProcess:
    """Start `broker` with these arguments and variables; `outputs` are its file descriptors, each a pipe or a file."""
    process = FORKING.Process(target=_command, args=(arguments, cwd, variables, outputs))
    process.start()
    return process


def _command(
    arguments: Sequence[str], cwd: Path, variables: Mapping[str, str], outputs: Mapping[int, Connection | Path]
) -> None:
    os.setsid()
    for number, output in outputs.items():
        if isinstance(output, Path):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), number)
        else:
            os.dup2(output.fileno(), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["broker", *arguments]
    try:
        app(prog_name="broker")
    finally:
        # The end of a forked process skips these two steps of an interpreter's.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
