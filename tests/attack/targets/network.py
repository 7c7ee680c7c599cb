"""Segmentation networks from strangers, in both supported formats."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from mutations import damaged
from onnx import TensorProto, helper

from mcl_jax.footage.network import Network
from targets.base import Target

SIDE = 16


def sound_onnx() -> bytes:
    """Returns a network of a few kinds of layers."""
    rng = np.random.default_rng(0)

    def weights(name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
        values = rng.standard_normal(shape).astype(np.float32)
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values.tobytes(), raw=True)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Constant", [], ["s"], value=weights("s", (1, 4, 1, 1))),
        helper.make_node("Mul", ["c", "s"], ["d"]),
        helper.make_node("Concat", ["c", "d"], ["e"], axis=1),
        helper.make_node("Conv", ["e", "w2"], ["f"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, SIDE // 2, SIDE // 2])],
        [weights("w1", (4, 3, 3, 3)), weights("b1", (4,)), weights("w2", (2, 8, 1, 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


class TfliteFile:
    """A network of one convolution: a FlatBuffer by hand, as TensorFlow Lite is not installed."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def content(self) -> bytes:
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(6), rng.standard_normal(2)]
        contents = [self.builder.CreateByteVector(array.astype("<f4").tobytes()) for array in arrays]
        buffers = self._offsets([self._table({}), *(self._table({0: content}) for content in contents)])
        shapes = {"x": [1, SIDE, SIDE, 3], "w": [2, 1, 1, 3], "b": [2], "y": [1, SIDE, SIDE, 2]}
        tensors = self._offsets(
            [self._tensor(*entry) for entry in zip(shapes.items(), (0, 1, 2, 0), strict=True)]
        )
        one = (flatbuffers.number_types.Int32Flags, 1)
        options = self._table({}, {1: one, 2: one, 4: one, 5: one})  # strides and dilations
        inputs, outputs = self._numbers([0, 1, 2]), self._numbers([3])
        conv2d_options = (flatbuffers.number_types.Uint8Flags, 1)
        operator = self._table({1: inputs, 2: outputs, 4: options}, {3: conv2d_options})
        first, last, operators = self._numbers([0]), self._numbers([3]), self._offsets([operator])
        text = self.builder.CreateString("by hand")
        graphs = self._offsets([self._table({0: tensors, 1: first, 2: last, 3: operators, 4: text})])
        conv2d = {
            0: (flatbuffers.number_types.Int8Flags, 3),
            2: one,
            3: (flatbuffers.number_types.Int32Flags, 3),
        }
        codes = self._offsets([self._table({}, conv2d)])
        version = {0: (flatbuffers.number_types.Uint32Flags, 3)}
        model = self._table({1: codes, 2: graphs, 3: text, 4: buffers}, version)
        self.builder.Finish(model, file_identifier=b"TFL3")
        return bytes(self.builder.Output())

    def _tensor(self, named: tuple[str, list[int]], number: int) -> int:
        name, shape = self.builder.CreateString(named[0]), self._numbers(named[1])
        return self._table({0: shape, 3: name}, {2: (flatbuffers.number_types.Uint32Flags, number)})

    def _table(self, offsets: dict[int, int], values: dict[int, tuple[Any, int]] | None = None) -> int:
        self.builder.StartObject(10)
        for slot, offset in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, (kind, value) in (values or {}).items():
            self.builder.PrependSlot(kind, slot, value, None)
        return self.builder.EndObject()

    def _numbers(self, items: list[int]) -> int:
        return self._vector(items, self.builder.PrependInt32)

    def _offsets(self, items: list[int]) -> int:
        return self._vector(items, self.builder.PrependUOffsetTRelative)

    def _vector(self, items: list[int], prepend: Callable[[int], None]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            prepend(item)
        return self.builder.EndVector()


class OnnxNetwork(Target):
    harm_is = "bytes of a network"
    may_differ = True
    seconds = 90
    mebibytes = 8192
    kind = ".onnx"

    def make(self, folder: Path) -> None:
        (folder / f"net{self.kind}").write_bytes(self.sound())

    def sound(self) -> bytes:
        return sound_onnx()

    def harm(self, folder: Path, rng: random.Random) -> str:
        path = folder / f"net{self.kind}"
        path.write_bytes(damaged(path.read_bytes(), rng))
        return "bytes"

    def answer(self, folder: Path) -> str:
        picture = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
        with Network(folder / f"net{self.kind}", None) as network:
            return network.mask(picture).tobytes().hex()


class TfliteNetwork(OnnxNetwork):
    kind = ".tflite"

    def sound(self) -> bytes:
        return TfliteFile().content()
