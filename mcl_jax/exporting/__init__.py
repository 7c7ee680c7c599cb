"""Exports a trained model as one file for other programs: ONNX or StableHLO."""

from typing import Literal, get_args

Format = Literal["onnx", "stablehlo"]
FORMATS: tuple[str, ...] = get_args(Format)
