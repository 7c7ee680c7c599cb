"""Exports every model in its published size and compares onnxruntime and StableHLO with mcl_jax.

JAX_PLATFORMS=cpu python benchmarks/export.py
"""

import tempfile
from pathlib import Path

import jax
import numpy as np
import onnxruntime

from mcl_jax.api import Gait
from mcl_jax.exporting.writer import export
from mcl_jax.models.registry import Weights, create_model

MODELS = [
    ("gaitset", {}),
    ("gaitbase", {"num_classes": 10}),
    *[("deepgaitv2", {"num_classes": 10, "mode": mode}) for mode in ("2d", "3d", "p3d")],
]


def main() -> None:
    frames = np.random.default_rng(0).integers(0, 2, (30, 64, 64), np.uint8) * 255
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in MODELS:
            model = create_model(name, arguments, dtype="float32")
            params, stats = jax.device_get(model.initial_arrays(0))
            gait = Gait(Weights(model.block, params, stats, 0, "initial parameters"))
            ours = gait.embed(frames)[0]
            path = Path(folder, "model")
            found = {}
            export(gait, path, format="onnx")
            size = path.stat().st_size / 1e6
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (found["onnx"],) = session.run(["embedding"], {"frames": frames})
            export(gait, path, format="stablehlo")
            exported = jax.export.deserialize(bytearray(path.read_bytes()))
            found["stablehlo"] = np.asarray(exported.call(frames))
            off = {
                key: float(np.abs(value - ours).max() / np.abs(ours).max()) for key, value in found.items()
            }
            mode = arguments.get("mode", "")
            print(
                f"{name} {mode:<4} {size:6.1f} MB  onnx {off['onnx']:.1e}  stablehlo {off['stablehlo']:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
