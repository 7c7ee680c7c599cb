import argparse
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx
from jax import lax

import mcl_jax
from mcl_jax.cli.commands import export as command
from mcl_jax.data.feed.augment import cut
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
    ("gaitbase", {**SMALL, "embed_dim": 5, "backbone": "plain", "bins": (8, 2)}),
    ("gaitpart", {"channels": (4, 6, 8), "embed_dim": 5}),
    ("gaitpocket", {**SMALL, "embed_dim": 5}),
    ("deepgaitv2", {**DEEP, "mode": "2d"}),
    ("deepgaitv2", {**DEEP, "mode": "3d"}),
    ("foundationgait", {**DEEP, "bins": (4, 2, 1), "embed_dim": 5}),
    ("deepgaitv2", {**DEEP, "mode": "p3d", "use_emb2": True}),
]


def walk(frames: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (frames, side, side), np.uint8)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [MODELS[0], *[pytest.param(*m, marks=pytest.mark.slow) for m in MODELS[1:]]],
)
def test_onnxruntime_gives_our_embeddings_for_any_number_of_frames(name, arguments):
    model = create_model(name, arguments, dtype="float32")
    params, stats = jax.device_get(model.initial_arrays(0))
    # Means of −0.1, so that something is left behind each ReLU, and variances other than 1.
    stats = jax.tree.map(
        lambda x: (x * np.linspace(0.5, 2, x.size).reshape(x.shape) - 0.1).astype(np.float32), stats
    )
    side = model.frame_shape[0]
    made = onnx_model(embedding_program(model, params, stats), any_length(side), ("frames", "embedding"))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    walks = [walk(1, side), walk(7, side)]
    ours = Embedder(model, rows=1, slots=16).embed(params, stats, [cut(w) for w in walks])
    for frames, expected in zip(walks, ours, strict=True):
        (found,) = session.run(["embedding"], {"frames": frames})
        assert np.abs(expected).max() > 1e-3
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


FORMS = [
    ("gaitgl", {"channels": (4, 6, 8)}),
    ("gaitgl", {"form": "large", "channels": (4, 6, 8, 8)}),
    ("gaitgl", {"form": "large", "channels": (4, 6, 8, 8), "necks": True}),
    ("swingait", {"layers": (1, 1, 2, 1), "channels": (2, 3), "widths": (16, 32), "parts": 3}),
]


@pytest.mark.parametrize(("name", "arguments"), FORMS)
def test_models_with_windows_of_three_frames_are_exported_for_any_number(name, arguments):
    """One frame and two are repeated, and a rest of one or two behind the last window counts for nothing."""
    model = create_model(name, {**arguments, "num_classes": 2}, dtype="float32")
    params, stats = jax.device_get(model.initial_arrays(0))
    program = embedding_program(model, params, stats)
    exported = jax.export.export(jax.jit(program), platforms=("cpu", "cuda"))(any_length())
    made = onnx_model(program, any_length(), ("frames", "embedding"))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    walks = [walk(n) for n in (1, 2, 3, 7)]
    ours = Embedder(model, rows=1, slots=16).embed(params, stats, [w[:, :, 10:54] for w in walks])
    for frames, expected in zip(walks, ours, strict=True):
        (as_onnx,) = session.run(["embedding"], {"frames": frames})
        assert np.abs(expected).max() > 1e-6
        for found in (as_onnx, np.asarray(exported.call(frames))):
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


CONV = nnx.Conv(4, 4, (3,), rngs=nnx.Rngs(0))
EVEN = jnp.array([2, 0])

# Functions over time of features [frames, 4], as temporal models have them.
OVER_TIME = {
    "padded with a number": lambda x: jnp.pad(x, ((2, 1), (1, 0)), constant_values=3),
    "padded with the edge": lambda x: jnp.pad(x, ((2, 1), (0, 0)), mode="edge"),
    "padded by reflection": lambda x: jnp.pad(x, ((0, 0), (1, 1)), mode="reflect"),
    "padded mask": lambda x: jnp.where(jnp.pad(x > 0, ((1, 0), (0, 0)))[:-1], x, -1),
    "cut by a padding": lambda x: lax.pad(x, 0.0, ((0, 1, 0), (-1, 0, 0))),
    "mean": lambda x: x.mean(0),
    "deviation": lambda x: x.std(0),
    "sum so far": lambda x: jnp.cumsum(x, 0),
    "sum from the end": lambda x: lax.cumsum(x, axis=0, reverse=True),
    "moved by a frame": lambda x: jnp.roll(x, 1, 0),
    "attention": lambda x: jax.nn.softmax(x @ x.T, -1) @ x,
    "strongest frame": lambda x: x.argmax(0).astype(jnp.float32),
    "positions": lambda x: x * jnp.sin(jnp.arange(x.shape[0])[:, None] * 0.1),
    "first half": lambda x: jnp.where(jnp.arange(x.shape[0])[:, None] <= x.shape[0] // 2, x, 0).sum(0),
    "number of frames": lambda x: jnp.ones(x.shape).sum(0) + x[0],
    "some channels": lambda x: x[:, EVEN],
    "every second frame": lambda x: x[::2],
    "last frame": lambda x: x[-1],
    "last two frames": lambda x: x[-2:].max(0),
    "window maximum": lambda x: nnx.max_pool(x[None], (3,), (1,), "SAME")[0],
    "window mean": lambda x: nnx.avg_pool(jnp.pad(x, ((0, 3), (0, 0)))[None], (3,), (2,), "VALID")[0],
    "convolution": lambda x: CONV(x[None])[0],
    "activations": lambda x: jax.nn.gelu(x) + jax.nn.gelu(x, approximate=False) + jax.nn.softplus(x),
    "more activations": lambda x: jax.nn.elu(x) + jax.nn.silu(x) + jnp.tanh(x) + jnp.round(jnp.exp2(x)),
    "joined and split": lambda x: jnp.split(jnp.concatenate([x, jnp.stack([x, -x], 1)[:, 1]], 1), 2, 1)[1],
    "repeated": lambda x: jnp.tile(x, (1, 2)) + jnp.repeat(x, 2, axis=1),
    "flags": lambda x: ((x > 0).any(0) ^ (x < -1).all(0) | ~(x[0] != x[0])).astype(jnp.float32) + x.min(0),
    "pairs of frames": lambda x: jnp.abs(x[:, None] - x[None]).sum((0, 1)),
    "length": lambda x: jnp.linalg.norm(x, axis=0) + jax.nn.logsumexp(x, 0),
}


def in_one_number(y):
    """A sum in which every place has a weight of its own."""
    y = y.astype(jnp.float32)
    while y.ndim:
        y = (y * (1 + 0.1 * jnp.arange(y.shape[-1]))).sum(-1)
    return y


def test_operations_over_time_are_written():
    """All in one program, which has one output after the other."""

    def program(frames):
        x = frames[:, 0, :4].astype(jnp.float32) / 100 - 1
        return jnp.stack([in_one_number(function(x)) for function in OVER_TIME.values()])

    made = onnx_model(program, any_length(), ("frames", "embedding"))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["embedding"], {"frames": walk(7)})
    expected = np.asarray(jax.jit(program)(walk(7)))
    for name, ours, theirs in zip(OVER_TIME, expected, found, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-5), name


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


class Recurrent(nnx.Module):
    def __call__(self, x):
        return lax.scan(lambda state, frame: (state + frame, None), jnp.zeros(4), x)[0]


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Recurrent(), r"the operation scan of Recurrent\.__call__ \(test_export\.py:\d+\) cannot be written"),
        (lambda x: jnp.sort(x, axis=0)[0], r"the operation sort of \S*<lambda> \(test_export\.py"),
        (lambda x: lax.pad(x, 0.0, ((0, 0, 1), (0, 0, 0)))[0], r"the operation pad between the entries of "),
    ],
)
def test_an_operation_that_is_not_known_is_told_with_its_layer(layer, told):
    with pytest.raises(ConfigError, match=told):
        onnx_model(lambda x: layer(x[:, 0, :4].astype(jnp.float32)), any_length(), ("frames", "embedding"))


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
