"""Person segmentation network from a file, run by OpenCV in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.footage.network_input import LIBRARIES, require_library
from mcl_jax.footage.network_process import DONE, LENGTH, SIZE
from mcl_jax.utils.files import read_bounded

MAX_BYTES = 2**29

MEBIBYTES = 4096
"""Memory limit of the process that runs a network."""

SECONDS = 60
"""Time limit for reading the file, and for each picture."""

_LONGEST_REASON = 300
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from mcl_jax.footage import network_process as p; p.main{given!r}"
)


class Network:
    """Finds the people in a picture; a context manager.

    A file can make OpenCV's reader crash, so this process never reads it. A child process reads and runs it;
    if the child dies, this class raises an error.

    One output is the probability of a person, or its logit if values leave 0..1. Two outputs are background
    and person. With more, `person_class` says which output is a person.

    Args:
        path: .onnx or .tflite, with one input [1, 3, h, w] or [1, h, w, 3], RGB from 0 to 1.
        person_class: index of the output that is a person; None if there are at most two.

    Raises:
        DataError: it cannot be read, or its input is not a picture.
    """

    def __init__(self, path: Path, person_class: int | None) -> None:
        self.path = path
        kind = path.suffix.lower()
        if kind not in LIBRARIES:
            raise DataError(f"{path}: the name of a network ends in {' or '.join(LIBRARIES)}")
        require_library(kind)
        try:
            content = read_bounded(path, MAX_BYTES)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        program = _PROGRAM.format(path=sys.path, given=(kind, person_class, MEBIBYTES, SECONDS))
        try:
            # -I ignores Python's environment variables; the path is this process's.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pipesize=2**20,  # large enough for a picture to pass in a few pieces
            )
        except OSError as error:
            raise DataError(f"{path}: cannot start a process to read it: {error.strerror}") from None
        try:
            self._ask(content, 0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def mask(self, picture: np.ndarray) -> np.ndarray:
        """Returns where people are, uint8 [h, w] of 0 and 255, in a picture uint8 [h, w, 3], BGR.

        Raises:
            DataError: OpenCV cannot run the network, or its output is not a mask.
        """
        shape = picture.shape[:2]
        message = b"".join((SIZE.pack(*shape), np.ascontiguousarray(picture).data))
        return np.frombuffer(self._ask(message, shape[0] * shape[1]), np.uint8).reshape(shape).copy()

    def _ask(self, message: bytes, length: int) -> bytes:
        """Sends a message; returns the answer of `length` bytes."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None  # both are pipes
        assert answers is not None
        try:
            requests.write(LENGTH.pack(len(message)))
            requests.write(message)
            requests.flush()
            head = answers.read(LENGTH.size + 1)
        except BrokenPipeError:
            head = b""
        if len(head) <= LENGTH.size:
            raise DataError(f"{self.path}: {self._end()}")
        size = LENGTH.unpack(head[:-1])[0] - 1
        if head[-1:] == DONE and size == length and len(answer := answers.read(length)) == length:
            return answer
        reason = answers.read(min(size, 4 * _LONGEST_REASON)).decode(errors="replace")
        printable = "".join(sign if sign.isprintable() else " " for sign in reason)
        raise DataError(f"{self.path}: {' '.join(printable.split())[:_LONGEST_REASON]}")

    def _end(self) -> str:
        """Returns why the process has ended."""
        code = self._process.wait()
        if code == -getattr(signal, "SIGALRM", 0):
            return f"takes OpenCV more than {SECONDS} s; use a smaller network"
        return (
            "OpenCV crashes on this network: it is damaged, too large or malicious; "
            "export it again, or use another"
        )
