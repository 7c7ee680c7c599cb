"""Batches are a pure function of (seed, step), independent of workers, hosts and the first step."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.data.feed.augment import CUT_COLUMNS
from mcl_jax.data.feed.loaders import HostShare, SequenceLoader, TrainLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.sampling import FrameSampling
from mcl_jax.data.sequences import Split, select
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import DataError, UserError
from mcl_jax.utils.extras import MissingExtraError

FIXED = FrameSampling("fixed_unordered", frames=4)
VARIABLE = FrameSampling("unfixed_unordered", min_frames=2, max_frames=6)
AUGMENT = (("perspective", 0.5), ("cut", 1.0), ("flip", 0.5), ("rotate", 0.5), ("erase", 0.5))


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for subject in range(5):
        for view in range(4):
            folder = root / f"{subject:03d}" / "nm-01" / f"{view:03d}"
            folder.mkdir(parents=True)
            # A band from top to bottom; one grey pixel in it says the subject, so that labels can be checked.
            frames = np.zeros((rng.integers(3, 9), 64, 64), np.uint8)
            frames[:, :, 24:40] = 255
            frames[:, 32, 32] = 40 + 40 * subject
            (folder / "a.pkl").write_bytes(pickle.dumps(frames))
    return select(scan_tree(root), [f"{s:03d}" for s in range(5)], "training", PklSource())


def loader(split: Split, frames: FrameSampling = FIXED, **changes) -> TrainLoader:
    settings = {"batch": (3, 4), "augmentation": AUGMENT, "seed": 7, "share": HostShare(), "row_sizes": 5}
    return TrainLoader(split, frames=frames, **settings | changes)


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert np.array_equal(a[key], b[key]), key


@pytest.mark.parametrize("frames", [FIXED, VARIABLE], ids=["fixed", "variable"])
def test_batches_do_not_depend_on_workers_or_start(split, frames):
    load = loader(split, frames)
    expected = [load(step) for step in range(6)]
    for workers, start in ((0, 0), (1, 0), (2, 3)):
        with prefetched(load, range(start, 6), workers) as batches:
            for step, batch in enumerate(batches, start):
                assert_equal(batch, expected[step])
        assert step == 5


def test_seeds_and_steps_differ(split):
    a, b = loader(split), loader(split, seed=8)
    assert not np.array_equal(a(0)["frames"], a(1)["frames"])
    assert not np.array_equal(a(0)["frames"], b(0)["frames"])


@pytest.mark.parametrize("frames", [FIXED, VARIABLE], ids=["fixed", "variable"])
def test_labels_stand_beside_their_frames(split, frames):
    batch = loader(split, frames, augmentation=(("cut", 1.0),))(0)
    labels = batch["labels"]
    assert (np.sort(np.bincount(labels[labels >= 0]))[-3:] == 4).all()
    for row, segment in np.argwhere(labels >= 0):
        grey = batch["frames"][row][batch["segment_ids"][row] == segment][:, 32, 32 - CUT_COLUMNS]
        assert (grey == 40 + 40 * labels[row, segment]).all()
        assert len(grey) == 4 if frames is FIXED else 2 <= len(grey) <= 6
    assert not batch["frames"][batch["segment_ids"] < 0].any()


@pytest.mark.parametrize("frames", [FIXED, VARIABLE], ids=["fixed", "variable"])
def test_hosts_load_their_rows_of_the_same_batch(split, frames):
    whole = loader(split, frames)(2)
    shares = [loader(split, frames, share=HostShare(h, 2, devices=8))(2) for h in range(2)]
    joined = {key: np.concatenate([s[key] for s in shares]) for key in whole}
    rows = len(whole["labels"])
    assert len(joined["labels"]) == -(-rows // 8) * 8
    assert_equal({k: v[:rows] for k, v in joined.items()}, whole)
    assert (joined["labels"][rows:] == -1).all()
    assert (joined["segment_ids"][rows:] == -1).all()


def test_hosts_agree_on_the_row_size_and_it_drops_only_empty_slots(split):
    clips = FrameSampling("unfixed_unordered", min_frames=2, max_frames=12)
    settings = {"batch": (2, 4), "augmentation": (("cut", 1.0),)}
    of_one_size = loader(split, clips, row_sizes=1, **settings)
    hosts = [loader(split, clips, share=HostShare(h, 2, devices=2), **settings) for h in range(2)]
    sizes = set()
    for step in range(12):
        expected = of_one_size(step)
        shares = [host(step) for host in hosts]
        slots = shares[0]["segment_ids"].shape[1]
        sizes.add(slots)
        assert (expected["segment_ids"][:, slots:] == -1).all()
        joined = {key: np.concatenate([share[key] for share in shares])[:1] for key in expected}
        trimmed = {key: x if key == "labels" else x[:, :slots] for key, x in expected.items()}
        assert_equal(joined, trimmed)
        assert all(
            sum(x.nbytes for x in share.values()) <= host.nbytes
            for share, host in zip(shares, hosts, strict=True)
        )
    assert len(sizes) > 2
    assert sizes <= {shape.slots for shape in hosts[0].shapes}


def test_whole_sequences_are_cut_and_limited(split, tmp_path):
    frames = np.zeros((800, 64, 64), np.uint8)
    frames[:, :, 24:40] = 255
    frames[:, 32, 32] = np.arange(800) % 256
    path = tmp_path / "long.pkl"
    path.write_bytes(pickle.dumps(frames))
    ref = type(split.sequences[0])("long", "nm-01", "000", str(path))
    loaded = SequenceLoader([ref], PklSource())(0)["frames"]
    assert loaded.shape == (720, 64, 44)
    assert np.array_equal(loaded[:, 32, 32 - CUT_COLUMNS], frames[:720, 32, 32])


def test_unreadable_sequences_leave_empty_slots_if_asked(split):
    broken = [type(s)(s.subject, s.condition, s.view, "missing.pkl") for s in split.sequences[:12]]
    damaged = Split((*broken, *split.sequences[12:]), split.subjects, split.source)
    whole = loader(split)(0)
    batch = loader(damaged, skip_unreadable=True)(0)
    empty = np.isin(whole["labels"], [0, 1, 2])  # the subjects of the broken sequences
    assert empty.any()
    assert (batch["labels"][empty] == -1).all()
    assert (batch["segment_ids"][empty[:, 0]] == -1).all()
    assert not batch["frames"][empty[:, 0]].any()
    for key in whole:
        assert np.array_equal(batch[key][~empty[:, 0]], whole[key][~empty[:, 0]])
    with pytest.raises(DataError, match="missing.pkl"):
        loader(damaged)(0)
    everything = tuple(type(s)(s.subject, s.condition, s.view, "missing.pkl") for s in split.sequences)
    lost = Split(everything, split.subjects, split.source)
    with pytest.raises(DataError, match=r"data\.on_error: no sequence of a whole batch .*missing\.pkl"):
        loader(lost, skip_unreadable=True)(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sequence_is_one_line_from_any_worker(split, workers):
    ref = type(split.sequences[0])("x", "nm-01", "000", "missing.pkl")
    with (
        prefetched(SequenceLoader([ref], PklSource()), range(1), workers) as sequences,
        pytest.raises(DataError, match=r"^missing\.pkl: cannot be read: No such file or directory; .*"),
    ):
        next(sequences)


def test_without_grain_a_thread_loads_and_workers_are_refused(split, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with prefetched(loader(split), range(1), 0) as batches:
        assert_equal(next(batches), loader(split)(0))
    with (
        pytest.raises(
            MissingExtraError, match=r"^data.workers above 0 needs grain: pip install 'mcl_jax\[train\]'$"
        ),
        prefetched(loader(split), range(1), 1),
    ):
        pass


@dataclasses.dataclass(frozen=True)
class KilledLoader:
    """A worker that the system kills."""

    nbytes = 1

    def __call__(self, position, empty, note):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line():
    with (
        prefetched(KilledLoader(), range(2), 1) as results,
        pytest.raises(UserError, match=r"^data\.workers: a worker process was killed"),
    ):
        next(results)


FEED_FOREVER = """
import sys, time
from pathlib import Path
from mcl_jax.data.feed.loaders import SequenceLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.stores.tree import PklSource, scan_tree

if __name__ == "__main__":
    refs = scan_tree(Path(sys.argv[1]))
    with prefetched(SequenceLoader(refs, PklSource()), range(len(refs)), 1) as sequences:
        next(sequences)
        print("under way", flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_process_that_was_killed(split, tmp_path):
    script = tmp_path / "feed.py"
    script.write_text(FEED_FOREVER)
    root = Path(split.sequences[0].location).parents[3]
    with subprocess.Popen([sys.executable, script, root], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "under way\n"
        process.kill()
        # The workers hold the other end of this pipe as well.
        process.communicate(timeout=20)


def test_sources_survive_a_round_trip_to_a_worker(split):
    load = pickle.loads(pickle.dumps(loader(split)))
    assert_equal(load(0), loader(split)(0))


def test_places_name_the_clip_of_each_row_and_segment(split):
    share = HostShare(1, 2, 2)
    for frames in (FIXED, VARIABLE):
        loader = TrainLoader(
            split, batch=(2, 4), frames=frames, augmentation=[["cut", 1.0]], seed=3, share=share
        )
        batch, places = loader(7), loader.places(7)
        assert set(places) == {tuple(place) for place in np.argwhere(batch["labels"] >= 0).tolist()}
        for (row, segment), name in places.items():
            assert split.subjects[batch["labels"][row, segment]] == name.split("/")[0]
