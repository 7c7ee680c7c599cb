"""Reads the shape of a network's input from its file, which OpenCV cannot tell; free sizes are 0.

Needs the libraries of the extra `network`. They are imported before the process gives up opening files.
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
    """Returns the input shape of an ONNX model.

    Raises:
        ValueError: it does not have exactly one input. Other errors of the library: it is not such a file.
    """
    import onnx

    graph = onnx.load_model_from_string(content).graph
    weights = {tensor.name for tensor in graph.initializer}
    (tensor,) = (value for value in graph.input if value.name not in weights)
    return [dimension.dim_value for dimension in tensor.type.tensor_type.shape.dim]


def is_split(content: bytes) -> bool:
    """Returns whether an ONNX model keeps some of its weights in another file."""
    import onnx

    return any(tensor.external_data for tensor in onnx.load_model_from_string(content).graph.initializer)


def tflite_input(content: bytes) -> list[int]:
    """Returns the input shape of a TensorFlow Lite model.

    Raises:
        ValueError: it is not such a file, or does not have exactly one input. Other errors of the library:
            it is damaged.
    """
    import tflite

    if not tflite.Model.ModelBufferHasIdentifier(content, 0):
        raise ValueError("no TFL3")
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    if graph.InputsLength() != 1:
        raise ValueError(f"{graph.InputsLength()} inputs")
    tensor = graph.Tensors(graph.Inputs(0))
    return [int(tensor.Shape(i)) for i in range(tensor.ShapeLength())]
