"""A trained model as one file for other programs: ONNX or StableHLO, silhouettes in, an embedding out."""

from typing import Literal, get_args

Format = Literal["onnx", "stablehlo"]
FORMATS: tuple[str, ...] = get_args(Format)
