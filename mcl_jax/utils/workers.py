"""Makes worker processes end with the process that started them."""

import multiprocessing
import os
import signal
import threading


def live_with_parent() -> None:
    """Makes this worker ignore Ctrl-C, which its parent handles, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
