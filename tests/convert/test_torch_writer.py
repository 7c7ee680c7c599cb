import collections
import errno
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from mcl_jax.convert.torch_reader import read_torch_file
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.errors import UserError


def test_pytorch_reads_what_is_written(tmp_path):
    arrays = {
        "float32": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "half": np.array([1.5, -2], np.float16),
        "bfloat": np.array([[0.1], [3]], ml_dtypes.bfloat16),
        "long": np.array(60_000),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "empty": np.zeros((0, 3), np.float32),
    }
    content = {
        "model": collections.OrderedDict(arrays),
        "milestones": collections.Counter({4: 1, 8: 1}),
        "plain": [0, -1, 2**31, -(2**70), 0.1, True, False, None, "é", (), (1, "a")],
    }
    write_torch_file(tmp_path / "x.pt", content)
    read = torch.load(tmp_path / "x.pt", weights_only=True)

    assert isinstance(read["model"], collections.OrderedDict)
    assert isinstance(read["milestones"], collections.Counter)
    assert {key: read[key] for key in ("milestones", "plain")} == {
        key: content[key] for key in ("milestones", "plain")
    }
    assert list(read["model"]) == list(arrays)
    assert [t.dtype for t in read["model"].values()] == [
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.float64,
        torch.float32,
    ]
    for name, tensor in read["model"].items():
        assert tensor.shape == arrays[name].shape
        np.testing.assert_array_equal(tensor.to(torch.float64).numpy(), arrays[name].astype(np.float64))


def test_mcl_jax_reads_it_back_bit_by_bit(tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    write_torch_file(tmp_path / "x.pt", {"w": array, "n": 2**40})
    read = read_torch_file(tmp_path / "x.pt")
    assert read["w"].tobytes() == array.tobytes()
    assert read["n"] == 2**40


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        write_torch_file(tmp_path / name, {"w": np.ones(3, np.float32)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("value", [{1, 2}, np.array(["text"]), object()])
def test_other_values_are_refused(tmp_path, value):
    with pytest.raises(TypeError, match="cannot write"):
        write_torch_file(tmp_path / "x.pt", {"x": value})
    assert not (tmp_path / "x.pt").exists()


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    write_torch_file(path, {"w": np.ones(3, np.float32)})
    before = path.read_bytes()

    def refuse(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match=r"a\.pt: cannot be written: No space left"):
        write_torch_file(path, {"w": np.zeros(3, np.float32)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
