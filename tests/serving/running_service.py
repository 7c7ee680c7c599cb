"""A service with a model that is a formula, on a free port of the loopback."""

import contextlib
import dataclasses
import http.client
import io
import json
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import ModelId
from mcl_jax.serving.application import make_application
from mcl_jax.serving.limits import Limits
from mcl_jax.serving.server import Server, bind
from mcl_jax.serving.service import Service

MODEL = ModelId("runs/a", "0" * 64, 2, 2)
LIMITS = Limits(min_frames=15, body_bytes=2**20, walks=4)
RAW = {"Content-Type": "application/octet-stream"}
HEAD = b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"


def walk(frames: int, left: int = 20) -> np.ndarray:
    """Returns silhouettes uint8 [frames, 64, 44] of somebody narrow, `left` columns from the edge."""
    made = np.zeros((frames, 64, 44), np.uint8)
    made[:, :, left : left + 8] = 255
    return made


def embed(walks: list[np.ndarray]) -> np.ndarray:
    """Gives the number of frames and the column of each walk, [n, 2, 2], so that none equals another's."""
    rows = [(len(frames), np.flatnonzero(frames[0, 0])[0]) for frames in walks]
    return np.repeat(np.array(rows, np.float32)[:, None], 2, axis=1)


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def frames_zip(frames: int, folder: str = "") -> bytes:
    """Returns a zip file of raw PNG frames."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for i, frame in enumerate(walk(frames)):
            archive.writestr(f"{folder}{i:03d}.png", cv2.imencode(".png", np.pad(frame, 30))[1].tobytes())
    return content.getvalue()


def form(*files: bytes, **fields: str) -> tuple[bytes, dict[str, str]]:
    """Returns body and headers of a form."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for i, file in enumerate(files):
        head = f'--edge\r\nContent-Disposition: form-data; name="walk"; filename="w{i}"\r\n\r\n'
        parts.append(head.encode() + file + b"\r\n")
    return b"".join(parts) + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


@dataclasses.dataclass
class Served:
    """A service that runs."""

    port: int
    server: Server
    thread: threading.Thread
    folder: Path

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any]:
        """Returns status and answer, JSON if it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.getheader("Content-Type", "")
            return answer.status, json.loads(content) if kind == "application/json" else content.decode()

    def post(self, path: str, *files: bytes, **fields: str) -> tuple[int, Any]:
        return self.ask("POST", path, *form(*files, **fields))


@contextlib.contextmanager
def serving(
    folder: Path,
    embed: Callable[[list[np.ndarray]], np.ndarray] = embed,
    limits: Limits = LIMITS,
    key: str | None = None,
    model: ModelId = MODEL,
) -> Iterator[Served]:
    """Runs a service in a thread; its gallery is made if there is none."""
    open_gallery(folder, create=model)
    started = threading.Event()
    listener = bind("127.0.0.1", 0, key)
    server = Server(make_application(Service(embed, model, folder, limits), key), limits, started.set)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert started.wait(60)
        yield Served(listener.getsockname()[1], server, thread, folder)
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()
    assert not thread.is_alive()


class Gate:
    """The formula, which waits to be let go, and notes its batches."""

    def __init__(self):
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def __call__(self, walks):
        self.batches.append(len(walks))
        self.entered.set()
        assert self.open.wait(60)
        return embed(walks)


def embedding_of(answer) -> list[float]:
    return answer["walks"][0]["embedding"][0]


def talk(port: int, sent: bytes) -> bytes:
    """Sends bytes and returns all that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: connection.recv(4096), b""))
    return b""


ONE = npy(walk(15))
