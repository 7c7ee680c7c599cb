"""Partitions and protocols, JSON files that come with a dataset."""

import json
import random
from pathlib import Path

from mutations import NAMES, NUMBERS, text_damaged

from mcl_jax.data.sequences import read_partition, read_probe_set
from mcl_jax.evaluation.protocol_file import find_protocol
from targets.base import Target

PARTITION = {"TRAIN_SET": ["001", "002"], "TEST_SET": ["003", "004"], "PROBE_SET": ["003-nm-01-000"]}
PROTOCOL = {
    "title": "own",
    "gallery": ["nm-01"],
    "probes": {"night": ["nm-02"], "bags": None},
    "leave_out": "nothing",
    "figures": ["Rank-1", "mAP"],
}
PIECES = (
    *NAMES,
    *NUMBERS,
    "[" * 30,
    "[" * 100_000,
    '{"a":' * 5000,
    '"\\ud800"',
    "1" * 5000,
    "[]",
    "{}",
    "null",
    "-Infinity",
    "NaN",
)


class Partition(Target):
    harm_is = "words and bytes of a partition JSON"
    may_differ = True

    def make(self, folder: Path) -> None:
        (folder / "file.json").write_text(json.dumps(PARTITION, indent=1))

    def harm(self, folder: Path, rng: random.Random) -> str:
        path = folder / "file.json"
        path.write_bytes(text_damaged(path.read_text(), rng, PIECES).encode("utf-8", "surrogatepass"))
        return "text"

    def answer(self, folder: Path) -> str:
        return str((read_partition(folder / "file.json"), read_probe_set(folder / "file.json")))


class Protocol(Partition):
    harm_is = "words and bytes of a protocol JSON"

    def make(self, folder: Path) -> None:
        (folder / "file.json").write_text(json.dumps(PROTOCOL, indent=1))

    def answer(self, folder: Path) -> str:
        return str(find_protocol(str(folder / "file.json")))
