"""Shape of a segmentation network's input as its file says, which OpenCV does not tell; free sizes are 0.

Reading takes the libraries of the extra `network`. They are imported before files may not be opened any more.
"""

import importlib

from mcl_jax.utils.extras import require_extra

LIBRARIES = {".onnx": "onnx", ".tflite": "tflite"}
"""Ending of a file → the library that reads it."""


def require_library(kind: str) -> None:
    """Imports the library that reads files of a kind.

    Raises:
        MissingExtraError: if it is not installed.
    """
    require_extra("network", f"a network in a file {kind}", LIBRARIES[kind])
    importlib.import_module(LIBRARIES[kind])


def onnx_input(content: bytes) -> list[int]:
    """Returns the shape of the input of an ONNX model.

    Raises:
        ValueError: it has not one input; whatever the library raises, if it is no such file.
    """
    import onnx

    graph = onnx.load_model_from_string(content).graph
    weights = {tensor.name for tensor in graph.initializer}
    (tensor,) = (value for value in graph.input if value.name not in weights)
    return [dimension.dim_value for dimension in tensor.type.tensor_type.shape.dim]


def is_split(content: bytes) -> bool:
    """Returns whether an ONNX model says that some of its weights are in another file."""
    import onnx

    return any(tensor.external_data for tensor in onnx.load_model_from_string(content).graph.initializer)


def tflite_input(content: bytes) -> list[int]:
    """Returns the shape of the input of a TensorFlow Lite model.

    Raises:
        ValueError: it is no such file, or has not one input; whatever the library raises, if it is damaged.
    """
    import tflite

    if not tflite.Model.ModelBufferHasIdentifier(content, 0):
        raise ValueError("no TFL3")
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    if graph.InputsLength() != 1:
        raise ValueError(f"{graph.InputsLength()} inputs")
    tensor = graph.Tensors(graph.Inputs(0))
    return [int(tensor.Shape(i)) for i in range(tensor.ShapeLength())]
