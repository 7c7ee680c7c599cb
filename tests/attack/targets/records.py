"""A folder of records, and the tree they are made from."""

import hashlib
import pickle
import random
import shutil
from pathlib import Path

import numpy as np

from mcl_jax.data.datasets import download_of
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.data.stores.array_record import open_records
from mcl_jax.data.stores.manifest import check_files, read_manifest
from targets.base import Stored

# TFDS's own descriptions of the folder, which mcl_jax does not read; the log of how it was made.
UNREAD = ("dataset_info.json", "features.json", "*.jsonl", "*.log")


def write_tree(root: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(6):
        path = root / f"{number // 2:03d}" / "nm-01" / f"{number:03d}" / "sequence.pkl"
        path.parent.mkdir(parents=True)
        frames = (rng.random((3 + number, 64, 64)) > 0.5).astype(np.uint8) * 255
        path.write_bytes(pickle.dumps(frames, 4))


def prepare(folder: Path, seed: int) -> None:
    tree = folder.with_name(f"tree-{seed}")
    write_tree(tree, seed)
    prepare_dataset(download_of("tree"), tree, folder / "records", file_format="records")
    shutil.rmtree(tree)


class Records(Stored):
    harm_is = "bits of the manifest and the shards"
    mebibytes = 16384  # ArrayRecord reserves memory for many threads, and waits for ever without
    decides_nothing = UNREAD

    def make(self, folder: Path) -> None:
        prepare(folder, 0)

    def answer(self, folder: Path) -> str:
        root = folder / "records"
        check_files(root, read_manifest(root))
        listed, source = open_records(root)
        sha = hashlib.sha256()
        for sequence in listed:
            frames = source.read(sequence)
            array = np.ascontiguousarray(frames[np.arange(len(frames))])
            sha.update(f"{sequence.key} {array.shape}".encode() + array.tobytes())
        return sha.hexdigest()


class OtherShards(Records):
    """A shard of another preparation, of the same names and sizes."""

    harm_is = "shards of other records of the same names"

    def make(self, folder: Path) -> None:
        prepare(folder, 0)
        prepare(folder.with_name("others"), 1)
        shutil.move(folder.with_name("others") / "records", folder / "others")

    def harm(self, folder: Path, rng: random.Random) -> str:
        others = sorted((folder / "others").glob("*array_record*"))
        path = rng.choice(others)
        shutil.copy(path, folder / "records" / path.name)
        return path.name
