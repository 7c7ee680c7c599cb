"""Loggers that record, fail or hang, and readers of the files that real ones write."""

import errno
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcl_jax.loggers.logger import LoggedRun


class Recorder:
    """Notes what it gets."""

    def __init__(self, run: LoggedRun) -> None:
        self.run, self.calls = run, []

    def figures(self, step, figures):
        self.calls.append(("figures", step, dict(figures)))

    def clips(self, step, sheet):
        self.calls.append(("clips", step, sheet.shape))

    def report(self, step, scores, files):
        self.calls.append(("report", step, dict(scores), [path.name for path in files]))

    def close(self, *, finished):
        self.calls.append(("close", finished))

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


class Full(Recorder):
    """Finds the disk full."""

    def figures(self, step, figures):
        super().figures(step, figures)
        raise OSError(errno.ENOSPC, "No space left on device")


class Hanging(Recorder):
    """Waits for a server until the test lets it go."""

    go = threading.Event()

    def figures(self, step, figures):
        super().figures(step, figures)
        self.go.wait()


def away(run: LoggedRun) -> Any:
    raise ConnectionError("no route to host\nand a page of text")


def leaves(run: LoggedRun) -> Any:
    raise SystemExit("a library that ends the process")


def board_events(folder: Path) -> Iterator[tuple[str, int]]:
    """Yields tag and step of what TensorBoard shows of its files.

    An event with a status of a session hides what was written before it of its step and later ones.
    """
    shown: list[tuple[str, int]] = []
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)  # then its checksum, the event, and another
            event = Event.FromString(content[at + 12 : at + 12 + size])
            if event.HasField("session_log"):
                shown = [(tag, step) for tag, step in shown if step < event.step]
            shown += [(value.tag, event.step) for value in event.summary.value]
            at += 16 + size
    yield from shown


def wandb_records(path: Path) -> Iterator[Any]:
    """Yields the records of a file of offline mode: blocks of 32 KB with parts of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""
