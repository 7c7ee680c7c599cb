"""The cached list of sequences equals a new one, before and after every kind of change."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.data.stores import listing
from mcl_jax.data.stores.listing import CACHE_NAME, list_tree
from mcl_jax.data.stores.tree import scan_tree
from mcl_jax.errors import DataError


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def settle(root):
    """Makes a tree look an hour old: one that has just changed is not cached."""
    for folder, _, _ in os.walk(root):
        status = Path(folder).stat()
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns - 3600 * 10**9))


def add(root, key, name="a.pkl"):
    (root / key).mkdir(parents=True, exist_ok=True)
    (root / key / name).write_bytes(pickle.dumps(np.zeros((1, 64, 64), np.uint8)))


@pytest.fixture
def tree(tmp_path):
    for key in ("001/nm-01/000", "001/nm-01/090", "002/nm-01/000"):
        add(tmp_path / "tree", key)
    settle(tmp_path / "tree")
    return tmp_path / "tree"


def rewrite(root, old, new):
    text = (root / CACHE_NAME).read_text()
    assert old in text
    (root / CACHE_NAME).write_text(text.replace(old, new))


def assert_listed(root):
    """Lists a tree and checks that this is what walking it finds."""
    sequences = list_tree(root)
    assert sequences == scan_tree(root)
    assert [s.location for s in sequences] == [s.location for s in scan_tree(root)]
    return sequences


def forbid_walking(monkeypatch):
    def walk(root, file):
        raise AssertionError(f"walked {root}")

    monkeypatch.setattr(listing, "walk_tree", walk)


def test_second_listing_comes_from_the_cache(tree, monkeypatch):
    first = assert_listed(tree)
    assert (tree / CACHE_NAME).exists()
    forbid_walking(monkeypatch)
    assert list_tree(tree) == first


def test_a_moved_tree_keeps_its_cache(tree, tmp_path, monkeypatch):
    assert_listed(tree)
    moved = tree.rename(tmp_path / "moved")
    expected = [s.location for s in scan_tree(moved)]
    forbid_walking(monkeypatch)
    assert [s.location for s in list_tree(moved)] == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda root: add(root, "003/nm-01/000"),
        lambda root: add(root, "002/bg-01/000"),
        lambda root: add(root, "002/nm-01/018"),
        lambda root: add(root, "002/nm-01/000", "0.pkl"),
        lambda root: (root / "002/nm-01/000/a.pkl").rename(root / "002/nm-01/000/b.pkl"),
        lambda root: (root / "002").rename(root / "004"),
        lambda root: (root / CACHE_NAME).write_text("{"),
        lambda root: (root / CACHE_NAME).write_text("[]"),
        lambda root: rewrite(root, '"a.pkl"', '"b.pkl"'),
        lambda root: rewrite(root, '["001","nm-01","000","a.pkl"],', ""),
        lambda root: rewrite(root, '"sha256"', '"sha257"'),
        lambda root: (root / CACHE_NAME).write_text('{"format": 0}'),
    ],
)
def test_changes_are_noticed(tree, change):
    assert_listed(tree)
    change(tree)
    assert_listed(tree)


def test_a_tree_just_written_is_not_cached(tmp_path):
    add(tmp_path / "tree", "001/nm-01/000")
    assert_listed(tmp_path / "tree")
    assert not (tmp_path / "tree" / CACHE_NAME).exists()


def test_the_cache_is_in_the_users_folder_if_the_root_is_read_only(tree, cache_home, monkeypatch):
    # A folder of that name stands for a read-only root, which does not stop a superuser.
    (tree / CACHE_NAME / "x").mkdir(parents=True)
    first = assert_listed(tree)
    assert len(list((cache_home / "mcl_jax").iterdir())) == 1
    forbid_walking(monkeypatch)
    assert list_tree(tree) == first


def test_the_cache_is_optional(tree, tmp_path, monkeypatch):
    (tree / CACHE_NAME / "x").mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_listed(tree)
    assert_listed(tree)


def test_slow_disks_get_parallel_requests(tree, monkeypatch):
    monkeypatch.setattr(listing, "_SLOW_SECONDS", 0.0)
    monkeypatch.setattr(listing, "_TRIAL", 2)
    first = assert_listed(tree)
    forbid_walking(monkeypatch)
    assert list_tree(tree) == first


def test_unfinished_preparation_is_refused(tree):
    (tree / "prepared.jsonl").write_text('{"format":1,"complete":false}\n')
    with pytest.raises(DataError, match="not complete"):
        list_tree(tree)


def test_messages_are_those_of_scan_tree(tmp_path):
    with pytest.raises(DataError, match=r"data\.root: no folder"):
        list_tree(tmp_path / "missing")
    (tmp_path / "001" / "nm-01" / "000").mkdir(parents=True)
    with pytest.raises(DataError, match=r"000: no \.pkl file"):
        list_tree(tmp_path)
