import argparse
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import mcl_jax
from mcl_jax.cli.commands import export as command
from mcl_jax.embed import Embedder
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.exporting.embedding_function import any_length, embedding_program
from mcl_jax.exporting.graph import onnx_model
from mcl_jax.exporting.writer import export
from mcl_jax.models.registry import create_model

SMALL = {"channels": (4, 6, 8, 8), "num_classes": 2}
DEEP = {**SMALL, "layers": (1, 2, 1, 1)}
MODELS = [
    ("gaitset", {"channels": (4, 6, 8), "embed_dim": 5}),
    ("gaitbase", {**SMALL, "embed_dim": 5}),
    ("gaitbase", {**SMALL, "embed_dim": 5, "layers": (1, 2, 1, 1), "max_pool": True, "bins": (8, 2)}),
    ("gaitpart", {"channels": (4, 6, 8), "embed_dim": 5}),
    ("gaitpocket", {**SMALL, "embed_dim": 5}),
    ("deepgaitv2", {**DEEP, "mode": "2d"}),
    ("deepgaitv2", {**DEEP, "mode": "3d"}),
    ("deepgaitv2", {**DEEP, "mode": "p3d", "use_emb2": True}),
]


def walk(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (frames, 64, 64), np.uint8)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*MODELS[:2], *[pytest.param(*m, marks=pytest.mark.slow) for m in MODELS[2:-1]], MODELS[-1]],
)
def test_onnxruntime_gives_our_embeddings_for_any_number_of_frames(name, arguments):
    model = create_model(name, arguments, dtype="float32")
    params, stats = jax.device_get(model.initial_arrays(0))
    # Means of −0.1, so that something is left behind each ReLU, and variances other than 1.
    stats = jax.tree.map(
        lambda x: (x * np.linspace(0.5, 2, x.size).reshape(x.shape) - 0.1).astype(np.float32), stats
    )
    made = onnx_model(embedding_program(model, params, stats), any_length(), ("frames", "embedding"))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    walks = [walk(1), walk(7)]
    ours = Embedder(model, rows=1, slots=16).embed(params, stats, [w[:, :, 10:54] for w in walks])
    for frames, expected in zip(walks, ours, strict=True):
        (found,) = session.run(["embedding"], {"frames": frames})
        assert np.abs(expected).max() > 1e-3
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gaitgl", {"channels": (4, 6, 8)}),
        ("swingait", {"layers": (1, 1, 2, 1), "channels": (2, 3), "widths": (16, 32), "parts": 3}),
    ],
)
def test_windows_of_three_frames_are_stablehlo_for_any_number_of_frames_and_no_onnx(name, arguments):
    model = create_model(name, {**arguments, "num_classes": 2}, dtype="float32")
    params, stats = jax.device_get(model.initial_arrays(0))
    program = embedding_program(model, params, stats)
    exported = jax.export.export(jax.jit(program), platforms=("cpu", "cuda"))(any_length())
    walks = [walk(n) for n in (1, 2, 3, 7)]
    ours = Embedder(model, rows=1, slots=16).embed(params, stats, [w[:, :, 10:54] for w in walks])
    for frames, expected in zip(walks, ours, strict=True):
        found = np.asarray(exported.call(frames))
        assert np.abs(expected).max() > 1e-6
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    with pytest.raises(
        ConfigError, match=r"export: .+ of this model cannot be written as ONNX: use stablehlo"
    ):
        onnx_model(program, any_length(), ("frames", "embedding"))


@pytest.mark.slow
def test_stablehlo_gives_our_embeddings_in_a_process_without_this_package(toy_run, tmp_path):
    gait = mcl_jax.load(toy_run)
    mcl_jax.export(gait, tmp_path / "m.stablehlo", format="stablehlo")
    np.save(tmp_path / "walk.npy", walk(5))
    code = (
        "import sys, jax, jax.export, numpy as np\n"
        "f = jax.export.deserialize(bytearray(open('m.stablehlo', 'rb').read()))\n"
        "np.save('out.npy', f.call(np.load('walk.npy')))\n"
        "assert 'mcl_jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    expected = gait.embed(walk(5))[0]
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


def test_the_command_writes_a_file_that_onnxruntime_takes(toy_run, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "m.onnx"
    command.run(parser.parse_args(["--model", str(toy_run), "--out", str(out)]))
    assert capsys.readouterr().out.endswith("m.onnx: onnx, frames uint8 [any, 64, 64] → [16, 3]\n")
    (frames,) = onnxruntime.InferenceSession(out).get_inputs()
    assert (frames.name, frames.type, frames.shape) == ("frames", "tensor(uint8)", ["frames", 64, 64])


def test_an_operation_that_is_not_known_is_told():
    with pytest.raises(ConfigError, match="the operation sin of this model cannot be written as ONNX"):
        onnx_model(
            lambda x: jnp.sin(x.astype(jnp.float32)).max(axis=0), any_length(), ("frames", "embedding")
        )


def test_a_function_that_differs_is_not_written(toy_run, tmp_path, monkeypatch):
    def doubled(*arrays):
        program = embedding_program(*arrays)
        return lambda frames: 2 * program(frames)

    monkeypatch.setattr("mcl_jax.exporting.writer.embedding_program", doubled)
    with pytest.raises(UserError, match="not written: embeddings of the stablehlo file differ by"):
        export(mcl_jax.load(toy_run), tmp_path / "m", format="stablehlo")
    assert not (tmp_path / "m").exists()


def test_an_unknown_format_and_a_missing_package_are_told(toy_run, tmp_path, monkeypatch):
    gait = mcl_jax.load(toy_run)
    with pytest.raises(ConfigError, match="format: no 'tf'; there are onnx, stablehlo"):
        export(gait, tmp_path / "m", format="tf")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnx needs onnxruntime: pip install 'mcl_jax\[export\]'"):
        export(gait, tmp_path / "m")
