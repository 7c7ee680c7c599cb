"""Files from anybody: sequences, frames, checkpoints. Without a digest, another answer is no failure."""

import abc
import hashlib
import pickle
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mutations import damaged

from mcl_jax.convert.importer import load_checkpoint
from mcl_jax.convert.safetensors_writer import write_safetensors
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.data.prepare.frame_file import read_frame
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.tree import PklSource
from targets.base import Target


def silhouettes() -> np.ndarray:
    """Returns four frames of a bar that widens, uint8 [4, 64, 44] of 0 and 255."""
    frames = np.zeros((4, 64, 44), np.uint8)
    for number, frame in enumerate(frames):
        frame[4:60, 18 - number : 26 + number] = 255
    return frames


class Foreign(Target):
    """Harm is a few mutations of the bytes of one file."""

    may_differ = True

    def harm(self, folder: Path, rng: random.Random) -> str:
        path = rng.choice(sorted(folder.iterdir()))
        for _ in range(rng.choice((1, 1, 2, 5))):
            path.write_bytes(damaged(path.read_bytes(), rng))
        return path.name

    @abc.abstractmethod
    def read(self, path: Path) -> Any:
        """Returns the arrays of a file."""

    def answer(self, folder: Path) -> str:
        return " ".join(_digest(self.read(path)) for path in sorted(folder.iterdir()))


def _digest(value: Any) -> str:
    if isinstance(value, dict):
        return str({key: _digest(item) for key, item in value.items()})
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    return repr(value)


class Sequences(Foreign):
    harm_is = "bytes of a pkl of silhouettes"

    def make(self, folder: Path) -> None:
        frames = silhouettes()
        for protocol in (2, 4, 5):
            (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(frames, protocol=protocol))

    def read(self, path: Path) -> Any:
        return np.asarray(PklSource().read(SequenceRef("001", "nm-01", "000", str(path))))


class Frames(Foreign):
    harm_is = "bytes of PNG and JPEG frames"

    def make(self, folder: Path) -> None:
        frame = cv2.resize(silhouettes()[0], None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
        for ending in ("png", "jpg"):
            cv2.imwrite(str(folder / f"frame.{ending}"), frame)

    def read(self, path: Path) -> Any:
        return read_frame(path)


class Checkpoints(Foreign):
    harm_is = "bytes of OpenGait checkpoints, `.pt` and safetensors"

    def make(self, folder: Path) -> None:
        arrays = {
            "Backbone.conv1.weight": np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3),
            "BNNecks.bn1d.running_var": np.ones(4, np.float32),
            "BNNecks.bn1d.num_batches_tracked": np.array(7),
        }
        write_torch_file(folder / "model.pt", {"model": arrays, "iteration": 60000})
        write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})

    def read(self, path: Path) -> Any:
        found = load_checkpoint(path)
        return {**found.state_dict, "iteration": found.iteration}
