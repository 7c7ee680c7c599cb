import builtins
import collections
import io
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl_jax.convert.torch_reader import read_torch_file
from mcl_jax.errors import CheckpointError

# A pickle of {"w": a float32 tensor}, with holes for what hostile files put there.
TENSOR = (
    b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage"
    b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu%(count)stQ%(offset)s%(shape)s%(strides)s"
    b"\x89ccollections\nOrderedDict\n)RtRs."
)


def integer(value):
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor_pickle(shape, strides, *, offset=0, count=4):
    holes = {
        b"count": integer(count),
        b"offset": integer(offset),
        b"shape": integers(shape),
        b"strides": integers(strides),
    }
    return TENSOR % holes


def write_zip(path, program, storage=bytes(16), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)
    return path


def refusal(path):
    """Returns the message of the refusal: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def saved(tmp_path):
    def save(content, **options):
        torch.save(content, tmp_path / "file.pt", **options)
        return tmp_path / "file.pt"

    return save


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, np.float32),
        (torch.float16, np.float16),
        (torch.bfloat16, ml_dtypes.bfloat16),
        (torch.float64, np.float64),
        (torch.int64, np.int64),
        (torch.int32, np.int32),
        (torch.uint8, np.uint8),
        (torch.bool, np.bool_),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_every_type_bit_by_bit(saved, dtype, expected, zipped):
    tensor = (torch.arange(24).reshape(2, 3, 4) * 0.37 - 2).to(dtype)
    array = read_torch_file(saved({"x": tensor}, _use_new_zipfile_serialization=zipped))["x"]
    assert array.dtype == expected
    assert array.shape == (2, 3, 4)
    assert array.tobytes() == tensor.view(torch.uint8).numpy().tobytes()


def test_reads_views_scalars_and_empty_tensors(saved):
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {"turned": base.permute(2, 0, 1)[1:, :, ::2], "scalar": base[1, 2, 3], "empty": base[:, :0]}
    arrays = read_torch_file(saved(tensors))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_plain_values_and_containers(saved, protocol):
    content = {
        "numbers": [0, -1, 255, 65536, 2**31, -(2**40), 0.1, True, False, None],
        "tuple": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "counter": collections.Counter({4: 1, 8: 2}),
        "ordered": collections.OrderedDict([("b", 1), ("a", [])]),
        "text": "gait " * 60,
        7: {},
    }
    read = read_torch_file(saved(content, pickle_protocol=protocol))
    assert read == content
    assert list(read["ordered"]) == ["b", "a"]


def test_reads_a_parameter_and_a_state_dict_with_metadata(saved):
    module = torch.nn.BatchNorm1d(3)
    assert hasattr(module.state_dict(), "_metadata")
    read = read_torch_file(saved({"state": module.state_dict(), "parameter": module.weight}))
    assert list(read["state"]) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    np.testing.assert_array_equal(read["parameter"], np.ones(3))


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (builtins.eval, "eval"), (torch.load, "torch.serialization.load")],
)
def test_runs_nothing(tmp_path, saved, function, name):
    target = tmp_path / "executed"
    message = refusal(saved({"model": Hostile(function, f"touch {target}")}))
    assert name in message
    assert "without executing anything" in message
    assert not target.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"\x80\x02}",  # no end
        b"\x80\x02K\x01K\x02.",  # two results
        b"\x80\x02}K\x01s.",  # an item without a key
        b"\x80\x02h\x05.",  # a memo that was never written
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo index of 4 billion, of nothing
        b"\x80\x02K\x01)R.",  # a number called
        b"\x80\x02ctorch\nFloatStorage\n)R.",  # a storage type called
        b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR.",
        b"\x80\x02}}K\x01s.",  # a dict as a key
        b"\x80\x02})" + 100_000 * b"\x85" + b"K\x01s.",  # a tuple too deep to hash
        b"\x80\x02X\xff\xff\xff\x7fshort.",  # a text longer than the file
        b"\x80\x02K\x01Q.",  # a number as a storage
        b"\x80\x02(.",
        b"\x80\x02t.",
        b"\x80\x02ccollections.",
    ],
)
def test_refuses_a_broken_pickle(tmp_path, program):
    assert refusal(write_zip(tmp_path / "x.pt", program)).startswith("its pickle is damaged")


@pytest.mark.parametrize(
    "opcode", [b"cos\nsystem\n", b"i" + b"os\nsystem\n", b"\x82\x01", b"\x93", b"o", b"cos\nsystem\n)\x81"]
)
def test_every_pickle_opcode_for_classes_is_refused(tmp_path, opcode):
    program = b"\x80\x02X\x02\0\0\0osX\x06\0\0\0system" + opcode + b"."
    assert "refused" in refusal(write_zip(tmp_path / "x.pt", program))


def test_reads_a_tensor_written_by_hand(tmp_path):
    data = np.arange(4, dtype=np.float32).tobytes()
    read = read_torch_file(write_zip(tmp_path / "x.pt", tensor_pickle((2, 2), (1, 2)), data))
    np.testing.assert_array_equal(read["w"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    ("shape", "strides", "options", "why"),
    [
        ((5,), (1,), {}, "claims 20 bytes, but its storage has 16"),
        ((50_000, 50_000), (50_000, 1), {}, "claims 10000000000 bytes, but its storage has 16"),
        ((50_000, 50_000), (0, 0), {}, "claims 10000000000 bytes, but its storage has 16"),
        ((2, 2), (3, 1), {}, "claims 16 bytes"),
        ((4,), (1,), {"offset": 1}, "claims 16 bytes"),
        ((1,), (1,), {"count": 5}, "storage 0 claims 20 bytes, but has 16"),
        ((1,), (1,), {"count": 2**40}, "storage 0 claims"),
        ((4,), (-1,), {"offset": 3}, "its pickle is damaged"),
        ((-4,), (1,), {}, "its pickle is damaged"),
        ((2, 2), (1,), {}, "its pickle is damaged"),
        ((1,), (1,), {"offset": -1}, "its pickle is damaged"),
        ((1,), (1,), {"count": -1}, "its pickle is damaged"),
    ],
)
def test_refuses_claims_beyond_the_storage(tmp_path, shape, strides, options, why):
    assert why in refusal(write_zip(tmp_path / "x.pt", tensor_pickle(shape, strides, **options)))


def test_refuses_damaged_files(tmp_path, saved):
    whole = saved({"model": {"w": torch.arange(1000.0)}}).read_bytes()
    path = tmp_path / "damaged.pt"
    for length in (0, 3, 30, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        refusal(path)
    position = whole.index(np.float32(500).tobytes())
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    assert "CRC" in refusal(path)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "file.pt"
    torch.save({"model": {"w": torch.arange(30.0)}, "iteration": 7}, path)
    return path


@settings(max_examples=300)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(small_file, data):
    whole = bytearray(small_file.read_bytes())
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    path = small_file.with_name("flipped.pt")
    path.write_bytes(whole)
    try:
        read = read_torch_file(path)
    except CheckpointError:
        return
    np.testing.assert_array_equal(read["model"]["w"], np.arange(30))
    assert read["iteration"] == 7


def test_refuses_other_archives(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps({"w": 1}))
    assert refusal(path) == "is not a PyTorch checkpoint"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")
    assert "no data.pkl" in refusal(path)
    write_zip(path, tensor_pickle((1,), (1,)), bytes(10_000), zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle((1,), (1,)))
    assert "entry data/0 is missing" in refusal(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    assert "big-endian" in refusal(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "missing.pt")
    assert "Is a directory" in refusal(tmp_path)


def test_without_pytorch_the_old_format_has_a_clear_message(saved, monkeypatch):
    path = saved({"w": torch.ones(2)}, _use_new_zipfile_serialization=False)
    real_import = builtins.__import__

    def no_torch(name, *arguments, **options):
        if name.split(".")[0] == "torch":
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    message = refusal(path)
    assert "before 1.6" in message
    assert "save the file again" in message


def test_a_damaged_old_file_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(100)}, buffer, _use_new_zipfile_serialization=False)
    path = tmp_path / "old.pt"
    path.write_bytes(buffer.getvalue()[:-50])
    assert "PyTorch cannot load it" in refusal(path)


def test_an_old_file_of_nested_or_shared_values_is_refused(saved):
    shared = nested = ()
    for _ in range(40):
        shared = (shared, shared)  # 2^40 values in a few bytes
    for _ in range(60):
        nested = (nested,)
    for value in (shared, nested):
        message = refusal(saved(value, _use_new_zipfile_serialization=False))
        assert message == "has more than 200,000 values, or is nested more than 50 levels deep"
