"""`mcl-jax check` reads whole files and lists those that have changed since they were written."""

import json
import pickle

import numpy as np
import pytest

from mcl_jax.cli.program import run
from mcl_jax.data.datasets import download_of
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import ModelId
from mcl_jax.utils.digest import sealed
from mcl_jax.weights.packed import SHIPPED


@pytest.fixture
def files(tmp_path):
    for view in ("000", "090", "180"):
        path = tmp_path / "tree" / "001" / "nm-01" / view / "s.pkl"
        path.parent.mkdir(parents=True)
        rng = np.random.default_rng(int(view))
        path.write_bytes(pickle.dumps((rng.random((200, 64, 64)) > 0.5).astype(np.uint8) * 255))
    prepare_dataset(download_of("tree"), tmp_path / "tree", tmp_path / "records", file_format="records")
    gallery = open_gallery(tmp_path / "G", create=ModelId("a", "0" * 64, 1, 2))
    gallery.enroll("Ann", np.zeros((1, 1, 2), np.float32), [30])
    labels = np.array(["001"])
    EmbeddingSet(np.zeros((1, 1, 2), np.float32), labels, labels, labels).save(tmp_path / "e.npz")
    (tmp_path / "m.json").write_text(json.dumps(sealed({"threshold": 1.5})))
    (tmp_path / "older.json").write_text('{"threshold": 1.5}')
    return tmp_path


def test_sound_files_are_reported_as_sound(files, capsys):
    names = ("records", "G", "e.npz", "m.json", "older.json")
    assert run(["check", *(str(files / name) for name in names), str(SHIPPED)]) == 0
    told = [line.rsplit(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "3 records, sound",
        "1 walks, sound",
        "1 embeddings, sound",
        "sound",
        "readable, but without a digest to compare",
        "a model, sound",
    ]


@pytest.mark.parametrize(
    ("name", "where", "told"),
    [
        # Between the ends, which opening looks at.
        ("records/*array_record*", 0.5, "record 1 (001/nm-01/090)"),
        ("G/*.f32", 0.5, "a walk of 'Ann' is damaged"),
        ("e.npz", 0.2, "e.npz: "),
        ("m.json", 0.1, "m.json: damaged or changed"),
    ],
)
def test_damage_is_an_error_in_one_line(files, capsys, name, where, told):
    (path,) = files.glob(name)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    root = path if path.parent == files else path.parent
    assert run(["check", str(root)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_files_without_a_digest_are_refused(files, capsys):
    assert run(["check", str(files / "tree")]) == 1
    assert "is not a folder of records, a gallery" in capsys.readouterr().err
