"""A lost host ends the others, with one line that names it.

Every host notes a number that grows in the key-value store of `jax.distributed`, which host 0 keeps, and
looks whether the others' grow. Where host 0 itself is lost, JAX's own threads abort the process at once,
with pages of C++; so what is written past Python's `sys.stderr` is held back a second, and an abort a few.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from absl import logging
from jax._src import distributed  # the store has no other name

from mcl_jax.errors import UserError
from mcl_jax.runtime.preemption import LeavingError

_FOLDER = "mcl_jax/runtime/hosts/"
_BEAT_SECONDS = 1.0
# After an error in the middle of a step nearly always a host is gone: that is waited for, but not so long.
_SUSPECT_SECONDS = 10.0
# So that hosts that fail alike can all say why.
_FAREWELL_SECONDS = 3.0

_HELD_BACK_SECONDS = 1.0
_ABORTING = b"Terminating process because the JAX distributed service detected fatal errors"
_DONE, _FAILED = "done", "failed"


@contextlib.contextmanager
def in_company(seconds: float) -> Iterator[None]:
    """Around all that a host does with others: ends this process, with code 1, when one of them is lost.

    Args:
        seconds: without a sign of life after which a host counts as lost.

    Raises:
        UserError: for anything the user can mend, as what is done inside raises it, on a host that is alone.
    """
    if jax.process_count() == 1:
        yield
        return
    company = _Company(seconds)
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        company.leave(_FAILED)
        time.sleep(_FAREWELL_SECONDS)
        os._exit(1)  # the usual end waits for the other hosts
    except (LeavingError, KeyboardInterrupt, SystemExit):
        company.leave(_DONE)
        raise
    except Exception:
        company.find_out()
        raise
    company.leave(_DONE)


class _Company:
    """The hosts of this run, as this one sees them."""

    def __init__(self, seconds: float):
        """Starts to watch, in threads that need nothing of the main one."""
        self._client: Any = distributed.global_state.client
        self._me, self._hosts, self._seconds = jax.process_index(), jax.process_count(), seconds
        self._left = threading.Event()
        self._ending = threading.Lock()
        self._native = _NativeErrors(self._coordinator_is_lost)
        self._say(0)
        threading.Thread(target=self._watch, name="company", daemon=True).start()

    def leave(self, how: str) -> None:
        """Tells the others that this host ends, and how."""
        self._left.set()
        with contextlib.suppress(Exception):  # host 0 may have ended already
            self._client.key_value_set(f"{_FOLDER}{self._me}", f"{how} {socket.gethostname()}", True)

    def find_out(self) -> None:
        """Returns when an error that was met cannot be of a lost host, for such a one ends the process."""
        self._seconds = min(self._seconds, _SUSPECT_SECONDS)
        time.sleep(self._seconds + 3 * _BEAT_SECONDS)
        self.leave(_FAILED)

    def _say(self, beat: int) -> None:
        self._client.key_value_set(f"{_FOLDER}{self._me}", f"{beat} {socket.gethostname()}", True)

    def _watch(self) -> None:
        names = dict.fromkeys(range(self._hosts), "of unknown name")
        seen = {host: ("", time.monotonic()) for host in range(self._hosts)}
        beat = 0
        while not self._left.wait(_BEAT_SECONDS):
            beat += 1
            try:
                self._say(beat)
                noted = self._client.key_value_dir_get(_FOLDER)
            except Exception:  # whatever the connection raises
                self._coordinator_is_lost()
            now = time.monotonic()
            for key, value in noted:
                host = int(key.rpartition("/")[2])
                state, _, names[host] = value.partition(" ")
                if state != seen[host][0]:
                    seen[host] = state, now
            for host, (state, since) in seen.items():
                if state == _FAILED and now - since > _FAREWELL_SECONDS:
                    self._end(f"host {host} ({names[host]}) ended with an error, which is said there")
                if state not in (_DONE, _FAILED) and now - since > self._seconds:
                    self._end(f"host {host} ({names[host]}) is gone: no sign of life for {now - since:.0f} s")

    def _coordinator_is_lost(self) -> NoReturn:
        address = distributed.global_state.coordinator_address
        self._end(f"host 0 ({address}) is gone: the connection to it is lost")

    def _end(self, line: str) -> NoReturn:
        """Ends the process at once: nothing that waits for the other hosts would ever return."""
        with self._ending:
            self._native.discard()
            print(f"error: {line}; the same command goes on from the last save", file=sys.stderr, flush=True)
            os._exit(1)


class _NativeErrors:
    """What C++ writes to the terminal, held back for a second in case it is about a lost host."""

    def __init__(self, on_abort: Any):
        """Takes over file descriptor 2; `on_abort` is called when JAX gives its hosts up."""
        sys.stderr.flush()
        self._terminal = os.dup(2)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until the process ends
        os.dup2(self._file.fileno(), 2)
        sys.stderr = os.fdopen(os.dup(self._terminal), "w", buffering=1, errors="backslashreplace")
        logging.get_absl_handler().python_handler.stream = sys.stderr
        self._shown, self._on_abort, self._discarded = 0, on_abort, False
        atexit.register(self._show)
        _delay_abort()
        threading.Thread(target=self._relay, name="native errors", daemon=True).start()

    def discard(self) -> None:
        """Shows nothing more."""
        self._discarded = True

    def _relay(self) -> None:
        while True:
            size = os.fstat(self._file.fileno()).st_size
            if size > self._shown:
                time.sleep(_HELD_BACK_SECONDS)
                if _ABORTING in os.pread(self._file.fileno(), size, 0)[self._shown :]:
                    self._on_abort()
                self._show()
            time.sleep(_HELD_BACK_SECONDS / 4)

    def _show(self) -> None:
        held = os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, self._shown)
        self._shown += len(held)
        if not self._discarded:
            os.write(self._terminal, held)


def _delay_abort() -> None:
    """Has abort() wait for 6 s, the number of its signal, in which our line is written.

    A handler of Python's would run in the main thread only, which waits for the lost host.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
