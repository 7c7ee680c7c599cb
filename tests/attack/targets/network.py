"""Segmentation networks from anybody, in both of the formats that are read."""

import random
from pathlib import Path

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


def sound_tflite() -> bytes:
    """Returns a network of one convolution: a FlatBuffer by hand, as TensorFlow Lite is not installed."""
    builder = flatbuffers.Builder(1024)
    rng = np.random.default_rng(0)

    def vector(items: list[int], prepend) -> int:
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            prepend(item)
        return builder.EndVector()

    def numbers(items: list[int]) -> int:
        return vector(items, builder.PrependInt32)

    def offsets(items: list[int]) -> int:
        return vector(items, builder.PrependUOffsetTRelative)

    def table(slots: int, tables: dict[int, int] | None = None, ints: dict[int, int] | None = None) -> int:
        builder.StartObject(slots)
        for slot, value in (ints or {}).items():
            (builder.PrependInt8Slot if value < 127 else builder.PrependInt32Slot)(slot, value, -1)
        for slot, offset in (tables or {}).items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return builder.EndObject()

    def buffer(values: np.ndarray) -> int:
        return table(1, {0: builder.CreateByteVector(values.astype("<f4").tobytes())})

    def tensor(name: str, shape: list[int], number: int) -> int:
        text, sizes = builder.CreateString(name), numbers(shape)
        builder.StartObject(8)
        builder.PrependUOffsetTRelativeSlot(0, sizes, 0)
        builder.PrependInt8Slot(1, 0, -1)
        builder.PrependUint32Slot(2, number, 0)
        builder.PrependUOffsetTRelativeSlot(3, text, 0)
        return builder.EndObject()

    empty = table(1)
    buffers = offsets([empty, buffer(rng.standard_normal(2 * 3)), buffer(rng.standard_normal(2))])
    tensors = offsets(
        [
            tensor("x", [1, SIDE, SIDE, 3], 0),
            tensor("w", [2, 1, 1, 3], 1),
            tensor("b", [2], 2),
            tensor("y", [1, SIDE, SIDE, 2], 0),
        ]
    )
    builder.StartObject(6)  # Conv2DOptions: padding SAME, strides of 1
    builder.PrependInt8Slot(0, 0, -1)
    for slot in (1, 2, 4, 5):
        builder.PrependInt32Slot(slot, 1, 0)
    options = builder.EndObject()
    inputs, outputs = numbers([0, 1, 2]), numbers([3])
    builder.StartObject(9)  # Operator
    builder.PrependUint32Slot(0, 0, 1)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
    builder.PrependUint8Slot(3, 1, 0)  # Conv2DOptions
    builder.PrependUOffsetTRelativeSlot(4, options, 0)
    operators = offsets([builder.EndObject()])
    subgraph = table(5, {0: tensors, 1: numbers_of(builder, [0]), 2: numbers_of(builder, [3]), 3: operators})
    graphs = offsets([subgraph])
    builder.StartObject(4)  # OperatorCode: CONV_2D
    builder.PrependInt8Slot(0, 3, 0)
    builder.PrependInt32Slot(2, 1, 0)
    builder.PrependInt32Slot(3, 3, 0)
    codes = offsets([builder.EndObject()])
    builder.StartObject(8)
    builder.PrependUint32Slot(0, 3, 0)
    for slot, offset in ((1, codes), (2, graphs), (4, buffers)):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


def numbers_of(builder: flatbuffers.Builder, items: list[int]) -> int:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependInt32(item)
    return builder.EndVector()


class OnnxNetwork(Target):
    name = "onnx"
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
    name = "tflite"
    kind = ".tflite"

    def sound(self) -> bytes:
        return sound_tflite()
