"""All files of a run are checked before its first step."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.data import first_look
from mcl_jax.data.first_look import look_at
from mcl_jax.data.sequences import Split
from mcl_jax.data.stores.silhouette_pickle import MAX_AROUND, shape_of
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import DataError

WALK = np.tile(np.uint8([0, 255]), (9, 64, 32))


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(20):
        folder = tmp_path / "tree" / f"{number:03d}" / "nm-01" / "000"
        folder.mkdir(parents=True)
        (folder / "a.pkl").write_bytes(pickle.dumps(WALK, protocol=3 + number % 3))
    return tmp_path / "tree"


def split_of(tree: Path) -> Split:
    sequences = tuple(scan_tree(tree))
    return Split(sequences, tuple(s.subject for s in sequences), PklSource())


def file_of(tree: Path, number: int) -> Path:
    return tree / f"{number:03d}" / "nm-01" / "000" / "a.pkl"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("frames", [1, 9, 300])
def test_shapes_are_read_from_both_ends_of_a_file(protocol, frames):
    content = pickle.dumps(np.zeros((frames, 64, 44), np.uint8), protocol)
    shape = shape_of(content[:MAX_AROUND], content[-MAX_AROUND:], len(content))
    assert shape == (None if protocol == 2 else (frames, 64, 44))
    assert shape_of(content[:MAX_AROUND], content[-MAX_AROUND - 1 : -1], len(content) - 1) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"003\S*a\.pkl: the file is empty \(0 bytes\)"),
        (pickle.dumps(WALK)[:-100], r"003\S*a\.pkl: truncated or damaged pickle"),
        (pickle.dumps(np.zeros((3, 128, 88), np.uint8)), r"003.*array of shape \[3, 128, 88\]; expected"),
        (pickle.dumps(WALK.astype(np.float32)), r"003.*frames are float32"),
    ],
    ids=["empty", "cut off", "128×88", "float"],
)
def test_unusable_files_are_reported_before_training(tree, content, message, caplog):
    file_of(tree, 3).write_bytes(content)
    file_of(tree, 5).write_bytes(content)
    with pytest.raises(DataError, match=rf"^2 of 20 sequences cannot be used; the first: .*{message}.*skip"):
        look_at([split_of(tree)], skip=False)
    look_at([split_of(tree)], skip=True)
    (record,) = caplog.records
    assert record.getMessage().startswith("2 of 20 sequences cannot be used; the first: ")


def test_sound_files_are_not_opened_again(tree, monkeypatch):
    looked = []
    look = PklSource.look
    monkeypatch.setattr(PklSource, "look", lambda self, s: (looked.append(s.key), look(self, s)))
    look_at([split_of(tree), split_of(tree)], skip=False)
    assert len(looked) == 20
    look_at([split_of(tree)], skip=False)
    assert len(looked) == 20
    file_of(tree, 3).write_bytes(pickle.dumps(WALK[:5]))
    look_at([split_of(tree)], skip=False)
    assert looked[20:] == ["003/nm-01/000"]
    shutil.rmtree(first_look.user_cache())
    look_at([split_of(tree)], skip=False)
    assert len(looked) == 41
