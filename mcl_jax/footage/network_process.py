"""A separate process that reads and runs a segmentation network, since a bad file may crash it.

The process cannot open files, so a network cannot read weights from elsewhere. Its memory and time are
limited. `network.Network` starts it, sends the file's content and then pictures, and gets an answer to each.
"""

import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.footage.network_input import is_split, onnx_input, require_library, tflite_input

LENGTH = struct.Struct("<Q")
"""The head of every message: its number of bytes."""

SIZE = struct.Struct("<II")
"""At the head of a picture: its rows and columns."""

DONE, REFUSED = b"+", b"-"
"""The first byte of an answer: accepted, followed by the mask or nothing; or refused, with the reason."""

MAX_SIDE = 4096
"""Largest side of a network's input, in pixels."""

_SIDE_IF_FREE = 512  # for a network that takes pictures of any size
_EXPECTED = "expected [1, 3, h, w] or [1, h, w, 3]"


class Runner:
    """Finds the people in a picture, in this process.

    Args:
        content: the bytes of the file.
        kind: .onnx or .tflite.
        person_class: see `network.Network`.

    Raises:
        DataError: it cannot be read, or its input is not a picture; the message lacks the file's name.
    """

    def __init__(self, content: bytes, kind: str, person_class: int | None) -> None:
        self.person_class = person_class
        try:
            shape = onnx_input(content) if kind == ".onnx" else tflite_input(content)
            is_whole = kind != ".onnx" or not is_split(content)
        except MemoryError:
            raise
        except Exception:  # the library's error depends on the damage
            raise DataError("is damaged, or no network that OpenCV reads") from None
        if not is_whole:
            raise DataError("keeps its weights in another file, which is never read; save it as one file")
        self.columns, self.rows = _picture_size(shape)
        read = cv2.dnn.readNetFromONNX if kind == ".onnx" else cv2.dnn.readNetFromTFLite
        try:
            self.net = read(np.frombuffer(content, np.uint8))
        except cv2.error:
            raise DataError("is damaged, or no network that OpenCV reads") from None

    def mask(self, picture: np.ndarray) -> np.ndarray:
        """Returns where people are, uint8 [h, w] of 0 and 255, in a picture uint8 [h, w, 3], BGR.

        Raises:
            DataError: OpenCV cannot run the network, or its output is not a mask.
        """
        blob = cv2.dnn.blobFromImage(picture, 1 / 255, (self.columns, self.rows), swapRB=True)
        try:
            self.net.setInput(blob)
            output = np.asarray(self.net.forward(), np.float32)
        except cv2.error as error:
            raise DataError(f"OpenCV cannot run this network: {error.err}") from None
        score = cv2.resize(self._score(output), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.where(score > 0, 255, 0).astype(np.uint8)

    def _score(self, output: np.ndarray) -> np.ndarray:
        """Returns a score [h, w] that is above 0 where there is a person."""
        if output.ndim == 3:
            output = output[:, None]
        if output.ndim == 4 and output.shape[3] < output.shape[1] and output.shape[3] <= output.shape[2]:
            output = output.transpose(0, 3, 1, 2)  # channels last
        if output.ndim != 4 or len(output) != 1 or not output.size or not np.isfinite(output).all():
            raise DataError(f"its output {list(output.shape)} is not a mask; expected [1, c, h, w]")
        classes = output[0]
        person = self.person_class if len(classes) > 2 else len(classes) - 1
        if person is None or not 0 <= person < len(classes):
            raise DataError(f"has {len(classes)} classes; give the person's as person_class, from 0")
        if len(classes) == 1:
            is_probability = classes.min() >= 0 and classes.max() <= 1
            return np.ascontiguousarray(classes[0] - 0.5 if is_probability else classes[0])
        return np.ascontiguousarray(classes[person] - np.delete(classes, person, axis=0).max(axis=0))


def _picture_size(shape: list[int]) -> tuple[int, int]:
    """Returns columns and rows of the input; OpenCV accepts a wrong size and computes nonsense."""
    if len(shape) != 4 or shape[0] > 1 or 3 not in (shape[1], shape[3]):
        raise DataError(f"its input is {shape[:8]}; {_EXPECTED}")
    rows, columns = shape[2:] if shape[1] == 3 else shape[1:3]
    if max(rows, columns) > MAX_SIDE:
        raise DataError(
            f"its input is {shape}, and a side may have at most {MAX_SIDE}; export it with a smaller input"
        )
    return columns if columns > 0 else _SIDE_IF_FREE, rows if rows > 0 else _SIDE_IF_FREE


def _confine(mebibytes: int) -> None:
    """Limits this process for good: no more memory than given, no files, no core dumps."""
    try:
        import resource  # there is none on Windows
    except ModuleNotFoundError:
        return
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 0}
    if sys.platform == "linux":  # other systems ignore it
        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = now + mebibytes * 2**20
    for limit, most in limits.items():
        highest = resource.getrlimit(limit)[1]
        lower = most if highest == resource.RLIM_INFINITY else min(most, highest)
        resource.setrlimit(limit, (lower, lower))


def _messages(stream: BinaryIO) -> Iterator[bytes]:
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        yield stream.read(LENGTH.unpack(head)[0])


def serve(requests: BinaryIO, answers: BinaryIO, kind: str, person_class: int | None, seconds: int) -> None:
    """Answers requests until there are no more; a request that exceeds the time limit ends the process."""
    runner: Runner | None = None
    for message in _messages(requests):
        if hasattr(signal, "alarm"):  # there is none on Windows
            signal.alarm(seconds)
        try:
            if runner is None:
                runner, answer = Runner(message, kind, person_class), DONE
            else:
                shape = (*SIZE.unpack_from(message), 3)
                picture = np.frombuffer(message, np.uint8, offset=SIZE.size).reshape(shape)
                answer = DONE + runner.mask(picture).tobytes()
        except DataError as error:
            answer = REFUSED + str(error).encode()
        except MemoryError:
            answer = REFUSED + b"takes more memory than a network is allowed"
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def main(kind: str, person_class: int | None, mebibytes: int, seconds: int) -> None:
    """Serves the parent process over the standard streams."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    require_library(kind)
    _confine(mebibytes)
    serve(sys.stdin.buffer, sys.stdout.buffer, kind, person_class, seconds)
