"""A temporarily failing disk: retries with growing pauses, one log line, and finally the original error."""

import errno
import os
import resource

import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from toy_states import assert_equal, make_state, restore, save

from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores import array_record
from mcl_jax.data.stores.array_record import RecordsSource
from mcl_jax.data.stores.tree import PklSource, entries
from mcl_jax.errors import CheckpointError, DataError, UserError
from mcl_jax.utils import files, retry


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", slept.append)
    return slept


def failing(action, times: int, code: int):
    """Returns the action, which fails at first."""
    left = [times]

    def flaky(*args, **kwargs):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return action(*args, **kwargs)

    return flaky


WALK = np.zeros((2, 64, 64), np.uint8)
WALK[:, :, 24:40] = 255


@pytest.fixture
def silhouettes(tmp_path) -> SequenceRef:
    path = tmp_path / "a.pkl"
    path.write_bytes(WALK.dumps())
    return SequenceRef("001", "nm-01", "090", str(path))


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN])
def test_reading_is_tried_again_and_that_is_said_once(silhouettes, pauses, monkeypatch, caplog, code):
    monkeypatch.setattr(files.os, "open", failing(os.open, 2, code))
    assert (PklSource().read(silhouettes) == WALK).all()
    assert pauses == [0.5, 1.0]
    assert [record.getMessage() for record in caplog.records] == [
        f"{silhouettes.location}: {os.strerror(code)}; trying again for up to 14.5 s"
    ]


def test_a_disk_that_stays_away_is_the_error_it_was(silhouettes, pauses, monkeypatch):
    monkeypatch.setattr(files.os, "open", failing(os.open, 99, errno.EIO))
    with pytest.raises(DataError, match=r"a\.pkl: cannot be read: Input/output error; "):
        PklSource().read(silhouettes)
    assert pauses == list(retry.PAUSES)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EEXIST, errno.ENOTEMPTY])
def test_permanent_errors_are_not_retried(pauses, code):
    with pytest.raises(OSError, match=os.strerror(code)):
        retry.retried("a file", failing(int, 1, code))
    assert pauses == []


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY])
def test_missing_files_and_full_folders_are_retried_after_a_disk_error(pauses, code):
    """A missing file while it is away; a folder that threads of the failed try still write into."""
    assert retry.retried("a file", failing(failing(int, 1, code), 1, errno.EIO)) == 0
    assert pauses == [0.5, 1.0]


def test_folders_and_records_are_tried_again(tmp_path, pauses, monkeypatch):
    monkeypatch.setattr(os, "scandir", failing(os.scandir, 1, errno.ESTALE))
    assert entries(tmp_path) == []
    opened = []

    class Records:
        def __getitem__(self, number):
            if len(opened) < 3:  # as riegeli words it
                raise RuntimeError("UNKNOWN: pread() failed: Input/output error [5]; reading a file")
            return b"record"

    monkeypatch.setattr(array_record, "_open_folder", lambda root: opened.append(root) or Records())
    wanted = SequenceRef("001", "nm-01", "090", "0")
    monkeypatch.setattr(array_record, "_decode", lambda record: (WALK, wanted))
    assert RecordsSource(tmp_path).read(wanted).shape == (2, 64, 64)
    assert len(opened) == 3  # each time anew


def test_writing_a_file_is_tried_again(tmp_path, pauses, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", failing(os.fsync, 2, errno.EIO))
    files.write_atomically(tmp_path / "a", b"all")
    assert (tmp_path / "a").read_bytes() == b"all"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    monkeypatch.setattr(files.os, "fsync", failing(os.fsync, 99, errno.EIO))
    with pytest.raises(UserError, match="cannot be written: Input/output error"):
        files.write_atomically(tmp_path / "a", b"other")
    assert (tmp_path / "a").read_bytes() == b"all"


def test_a_checkpoint_is_saved_again_whose_writing_failed(tmp_path, monkeypatch, caplog):
    """The limit fails the writing thread, as a disk would; here it counts as one that passes."""
    save(tmp_path, 3)
    words = os.strerror(errno.EFBIG)
    monkeypatch.setattr(retry, "_PASSING", {errno.EFBIG})
    monkeypatch.setattr(retry, "_WORDS", (words,))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def pause(seconds: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sleep(seconds)

    sleep = retry.time.sleep
    monkeypatch.setattr(retry.time, "sleep", pause)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        save(tmp_path, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{tmp_path}/checkpoints/5: " in caplog.text
    assert "; trying again" in caplog.text
    assert_equal(restore(tmp_path), make_state(5))


def test_a_checkpoint_is_not_called_damaged_when_the_disk_was_away(tmp_path, pauses, monkeypatch):
    save(tmp_path, 3, 5)
    monkeypatch.setattr(
        ocp.training.Checkpointer, "load", failing(ocp.training.Checkpointer.load, 2, errno.EIO)
    )
    assert_equal(restore(tmp_path), make_state(5))
    assert pauses == [0.5, 1.0]


def test_a_save_that_never_works_is_the_error_it_was(tmp_path, pauses, monkeypatch):
    failed = failing(None, 99, errno.EIO)
    monkeypatch.setattr(ocp.training.Checkpointer, "save_async", failed)
    with pytest.raises(CheckpointError, match="cannot be saved: Input/output error; none was saved before"):
        save(tmp_path, 3)
