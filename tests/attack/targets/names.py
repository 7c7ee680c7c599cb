"""Names of people, conditions, views and groups, which become labels of pictures, pages and files."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
from mutations import NAMES

import mcl_jax.evaluation.report_files  # noqa: F401  # imported with the first report, so in every try
from mcl_jax.evaluation.embeddings import LABELS, EmbeddingSet
from mcl_jax.evaluation.protocol_file import find_protocol
from mcl_jax.evaluation.report import score
from mcl_jax.gallery.gallery import open_gallery
from targets.base import Target
from targets.gallery import MODEL, walk_of


class ScoredNames(Target):
    harm_is = "names of people, conditions, views and groups in a report"
    may_differ = True
    mebibytes = 2048
    seconds = 60

    def make(self, folder: Path) -> None:
        labels = {
            "subjects": ["001", "001", "002", "002", "003", "003"],
            "conditions": ["nm-01", "nm-02"] * 3,
            "views": ["000", "090"] * 3,
            "group": ["NM"],
        }
        (folder / "labels.json").write_text(json.dumps(labels))

    def harm(self, folder: Path, rng: random.Random) -> str:
        path = folder / "labels.json"
        labels = json.loads(path.read_text())
        kind = rng.choice(list(labels))
        old, new = rng.choice(labels[kind]), rng.choice(NAMES)
        labels[kind] = [new if name == old else name for name in labels[kind]]
        path.write_text(json.dumps(labels))
        return f"{kind}: {new[:50]!r}"

    def answer(self, folder: Path) -> str:
        labels = json.loads((folder / "labels.json").read_text())
        values = np.random.default_rng(0).standard_normal((6, 2, 4)).astype(np.float32)
        EmbeddingSet(values, *(np.array(labels[key]) for key in LABELS)).save(folder / "e.npz")
        gallery, probe = labels["conditions"][:2]
        protocol = {"gallery": [gallery], "probes": {labels["group"][0]: [probe]}, "leave_out": "nothing"}
        (folder / "own.json").write_text(json.dumps(protocol))
        report = score(EmbeddingSet.load(folder / "e.npz"), find_protocol(str(folder / "own.json")))
        report.write(folder / "report")
        return str(report) + (folder / "report" / "metrics.json").read_text()


class EnrolledNames(Target):
    harm_is = "names of people in a gallery"
    may_differ = True

    def make(self, folder: Path) -> None:
        (folder / "name.json").write_text(json.dumps(["Ann", "Bob"]))

    def harm(self, folder: Path, rng: random.Random) -> str:
        names = [rng.choice(NAMES), rng.choice([*NAMES, "Bob"])]
        (folder / "name.json").write_text(json.dumps(names))
        return f"{names!r:.100}"

    def answer(self, folder: Path) -> str:
        first, second = json.loads((folder / "name.json").read_text())
        gallery = open_gallery(folder / "G", create=MODEL)
        gallery.enroll(first, walk_of(0), [30, 40])
        gallery.enroll(second, walk_of(1), [30, 40])
        gallery.rename(first, "Cid")
        gallery.rename("Cid", first)
        gallery.delete(second)
        again = open_gallery(folder / "G")
        assert list(again.people()) == [unicodedata.normalize("NFC", first.strip())]
        return str(again.identify(walk_of(0)[0]))
