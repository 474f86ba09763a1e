"""The end of a worker process whose parent was killed, so that it does not keep the port."""

import os
import signal
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Send this process SIGTERM when its parent process ends; without a parent process, do nothing."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
