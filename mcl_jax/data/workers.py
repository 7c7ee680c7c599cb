"""How worker processes behave towards the process that started them."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def started_without_signals(process: BaseProcess) -> None:
    """Starts a process that hears no Ctrl-C even while it imports: it inherits which signals are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_with_parent() -> None:
    """Makes this worker leave Ctrl-C to its parent, and end when that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
