import os
import signal
import struct
import sys

import cv2
import flatbuffers
import numpy as np
import pytest

from mcl_jax.errors import DataError, UserError
from mcl_jax.footage import FootageOptions
from mcl_jax.footage import network as network_module
from mcl_jax.footage.network import Network
from mcl_jax.footage.network_input import onnx_input, tflite_input


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def value_info(name, sizes):
    dims = b"".join(block(1, number(1, size)) if size else block(1, block(2, "n")) for size in sizes)
    return block(1, name) + block(2, block(1, number(1, 1) + block(2, dims)))


def red_finder(outputs, side=8, free=False):
    """An ONNX model, by hand: a 1×1 convolution whose last output is 10 · red − 5, the others 0."""
    weights, bias = np.zeros((outputs, 3, 1, 1), "<f4"), np.zeros(outputs, "<f4")
    weights[-1, 0], bias[-1] = 10, -5

    def tensor(name, array):
        dims = b"".join(number(1, size) for size in array.shape)
        return dims + number(2, 1) + block(8, name) + block(9, array.tobytes())

    node = block(1, "x") + block(1, "w") + block(1, "b") + block(2, "y") + block(3, "conv") + block(4, "Conv")
    graph = block(1, node) + block(2, "g") + block(5, tensor("w", weights)) + block(5, tensor("b", bias))
    sizes = [0 if free else side] * 2
    graph += block(11, value_info("x", [1, 3, *sizes])) + block(11, value_info("w", weights.shape))
    graph += block(12, value_info("y", [1, outputs, *sizes]))
    return number(1, 7) + block(7, graph) + block(8, block(1, "") + number(2, 11))


@pytest.fixture
def half_red():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:, 2] = 255
    return picture


@pytest.mark.parametrize(("outputs", "person"), [(1, None), (2, None), (5, 4)])
def test_the_person_is_where_the_network_says(tmp_path, half_red, outputs, person):
    path = tmp_path / "red.onnx"
    path.write_bytes(red_finder(outputs))
    with Network(path, person) as network:
        mask = network.mask(half_red)
    assert mask.shape == (40, 60)
    assert set(np.unique(mask)) == {0, 255}
    assert not mask[:, :26].any()
    assert mask[:, 34:].all()


def test_the_file_says_the_size():
    assert onnx_input(red_finder(1, side=200)) == [1, 3, 200, 200]
    assert onnx_input(red_finder(1, free=True)) == [1, 3, 0, 0]


def test_a_tflite_file_says_the_size():
    builder = flatbuffers.Builder(64)

    def vector(items, prepend):
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            prepend(item)
        return builder.EndVector()

    def table(fields, slots):
        builder.StartObject(slots)
        for slot, offset in fields.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return builder.EndObject()

    tensor = table({0: vector([1, 144, 256, 3], builder.PrependInt32)}, 4)
    other = table({0: vector([7], builder.PrependInt32)}, 4)
    tensors = vector([other, tensor], builder.PrependUOffsetTRelative)
    inputs = vector([1], builder.PrependInt32)
    graphs = vector([table({0: tensors, 1: inputs}, 5)], builder.PrependUOffsetTRelative)
    builder.Finish(table({2: graphs}, 6), file_identifier=b"TFL3")
    content = bytes(builder.Output())
    assert tflite_input(content) == [1, 144, 256, 3]
    with pytest.raises((ValueError, IndexError, struct.error, TypeError)):
        tflite_input(content[:40])


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = tmp_path / "red.onnx"
    path.write_bytes(red_finder(1))
    with pytest.raises(UserError, match=r"needs onnx: pip install 'mcl_jax\[network\]'"):
        Network(path, None)


@pytest.mark.parametrize("name", ["x.onnx", "x.tflite"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\0" * 500, red_finder(1)[:90]])
def test_damaged_networks(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: is damaged, or no network that OpenCV reads"):
        Network(tmp_path / name, None)


def test_networks_that_do_not_fit(tmp_path, half_red):
    path = tmp_path / "classes.onnx"
    path.write_bytes(red_finder(5))
    with (
        Network(path, None) as network,
        pytest.raises(DataError, match="has 5 classes; give the person's as person_class"),
    ):
        network.mask(half_red)
    with pytest.raises(DataError, match=r"nowhere\.onnx: cannot be read"):
        Network(tmp_path / "nowhere.onnx", None)
    with pytest.raises(DataError, match=r"a network ends in \.onnx or \.tflite"):
        Network(tmp_path / "net.pt", None)
    with pytest.raises(DataError, match="segmenter 'knn' does not use one"):
        FootageOptions(segmenter="knn", network=path)
    assert cv2.dnn.readNetFromONNX(str(path)) is not None


def stored_elsewhere(place):
    """A network whose first weights are in another file."""
    entry = block(13, block(1, "location") + block(2, str(place)))
    weights = number(1, 1) + number(1, 3) + number(1, 1) + number(1, 1) + number(2, 1) + block(8, "w")
    bias = number(1, 1) + number(2, 1) + block(8, "b") + block(9, np.float32(-5).tobytes())
    node = block(1, "x") + block(1, "w") + block(1, "b") + block(2, "y") + block(3, "conv") + block(4, "Conv")
    graph = block(1, node) + block(2, "g") + block(5, weights + entry + number(14, 1)) + block(5, bias)
    graph += block(11, value_info("x", [1, 3, 8, 8])) + block(12, value_info("y", [1, 1, 8, 8]))
    return number(1, 7) + block(7, graph) + block(8, block(1, "") + number(2, 11))


def test_weights_in_another_file_are_refused(tmp_path):
    pipe, path = tmp_path / "pipe", tmp_path / "split.onnx"
    os.mkfifo(pipe)
    path.write_bytes(stored_elsewhere(pipe))
    with pytest.raises(DataError, match=r"split\.onnx: keeps its weights in another file"):
        Network(path, None)


def test_the_process_of_a_network_opens_no_file(tmp_path, monkeypatch):
    """Whatever the file says, and wherever in it: here the check of its weights is left out."""
    weights, path = tmp_path / "weights", tmp_path / "split.onnx"
    weights.write_bytes(np.float32([10, 0, 0]).tobytes())
    path.write_bytes(stored_elsewhere(weights))
    changed = network_module._PROGRAM.replace("p.main", "p.is_split = lambda _: False; p.main")
    monkeypatch.setattr(network_module, "_PROGRAM", changed)
    with pytest.raises(DataError, match="is damaged, or no network that OpenCV reads"):
        Network(path, None)


@pytest.mark.parametrize("side", [60_000, 4097, 2**62])
def test_inputs_that_no_memory_holds_are_refused(tmp_path, side):
    path = tmp_path / "large.onnx"
    path.write_bytes(red_finder(1, side=side))
    with pytest.raises(DataError, match="a side may have at most 4096"):
        Network(path, None)


def test_memory_is_limited(tmp_path, half_red, monkeypatch):
    monkeypatch.setattr(network_module, "MEBIBYTES", 200)
    path = tmp_path / "large.onnx"
    path.write_bytes(red_finder(3, side=4096))
    with Network(path, 0) as network, pytest.raises(DataError, match="more memory|cannot run|crashes"):
        network.mask(half_red)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGSEGV, "crashes on this network"), (signal.SIGALRM, "more than 60 s")]
)
def test_the_end_of_its_process_is_one_line(tmp_path, half_red, number, said):
    path = tmp_path / "red.onnx"
    path.write_bytes(red_finder(1))
    with Network(path, None) as network:
        assert network.mask(half_red).any()
        os.kill(network._process.pid, number)
        for _ in range(2):
            with pytest.raises(DataError, match=said) as caught:
                network.mask(half_red)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("place", "byte"), [(27, 154), (30, 226), (30, 195)])
def test_bytes_that_end_opencvs_reader(tmp_path, half_red, place, byte):
    path = tmp_path / "red.onnx"
    content = bytearray(red_finder(1))
    content[place] = byte
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"red\.onnx: OpenCV crashes"), Network(path, None) as network:
        network.mask(half_red)
