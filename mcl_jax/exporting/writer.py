"""Writes a trained model as a file for other programs, after comparing its embeddings."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mcl_jax.api import Gait
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.exporting import FORMATS, Format
from mcl_jax.exporting.embedding_function import EMBEDDING, FRAMES, Program, any_length, embedding_program
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.files import write_atomically

PLATFORMS = ("cpu", "cuda", "tpu")  # platforms of a StableHLO file

_TOLERANCE = 1e-5  # as a share of the largest number of an embedding
_MOST_ONNX = 2**31 - 1  # bytes; the limit of protocol buffers


def export(gait: Gait, path: str | Path, *, format: Format = "onnx") -> None:
    """Writes a model as a function from frames uint8 [s, 64, 64] to an embedding float32 [parts, channels].

    A model of larger frames takes larger squares. The number of frames s is free. The file contains the
    preparation and the weights, in float32. Before it is written, the function is run on a walk of noise and
    compared with the model.

    Args:
        gait: from `mcl_jax.load`.
        path: the file.
        format: "onnx", which needs the extra `mcl_jax[export]`, or "stablehlo", for `jax.export.deserialize`.

    Raises:
        ConfigError: if the format is unknown, or lacks an operation of the model.
        UserError: if the function gives other embeddings, or the file cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"format: no {format!r}; there are {', '.join(FORMATS)}")
    program, side = gait.program(embedding_program), gait.frame_shape[0]
    content, run = (_onnx if format == "onnx" else _stablehlo)(program, side)
    frames = np.random.default_rng(0).integers(0, 2, (9, side, side), np.uint8) * 255
    ours, theirs = gait.embed(frames)[0], run(frames)
    worst = float(np.abs(ours - theirs).max())
    if not worst <= _TOLERANCE * max(float(np.abs(ours).max()), 1.0):
        raise UserError(
            f"{path}: not written: embeddings of the {format} file differ by {worst:.2g} "
            "from the model's; please report this"
        )
    write_atomically(path, content)


def _onnx(program: Program, side: int) -> tuple[bytes, Callable[[np.ndarray], np.ndarray]]:
    require_extra("export", "format: onnx")
    import onnxruntime

    from mcl_jax.exporting.graph import onnx_model

    model = onnx_model(program, any_length(side), (FRAMES, EMBEDDING))
    if model.ByteSize() > _MOST_ONNX:
        raise ConfigError("format: the model is larger than 2 GiB, the limit of ONNX files; use stablehlo")
    content = model.SerializeToString(deterministic=True)
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes have no public names
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"format: onnx: not written: onnxruntime refuses it: {reason}") from None
    return content, lambda frames: session.run([EMBEDDING], {FRAMES: frames})[0]


def _stablehlo(program: Program, side: int) -> tuple[bytes, Callable[[np.ndarray], np.ndarray]]:
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(any_length(side))
    return bytes(exported.serialize()), lambda frames: np.asarray(exported.call(frames))
