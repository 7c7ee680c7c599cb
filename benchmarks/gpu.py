"""Times training steps and embedding on a GPU, beside the minimum time that the card's speed allows.

    PYTHONPATH=. python3 benchmarks/gpu.py [--minutes 5] [--out gpu.json]

The programs are the same as in a run: the guarded step with a donated state, also with packed rows of drawn
lengths, 20,000 classes and float32, and the embedding of test batches in each precision. Each program runs in
its own process and is printed when done; programs without time left are named. Operations, and the bytes that
kernels read and write, are counted in the compiled program. "best" is the larger of operations / peak and
bytes / bandwidth; peak and bandwidth are measured on this card with a large product and a large copy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mcl_jax.data.feed.packing import EMPTY, GAP, RowShape, ordinary_test_rows, train_row_shape
from mcl_jax.embed_step import embedding_program
from mcl_jax.gpu_check.counting import count
from mcl_jax.losses.total import complete_losses
from mcl_jax.models.registry import Model, create_model
from mcl_jax.runtime.mesh import data_mesh, put_rows
from mcl_jax.runtime.settings import compiler_options
from mcl_jax.training.nonfinite import compile_guarded, guarded, start_counter
from mcl_jax.training.optimizers import OPTIMIZERS, multi_step
from mcl_jax.training.state import create_state
from mcl_jax.training.step import make_train_step

BACKBONE = {"channels": (64, 128, 256, 512)}
GAITBASE = ("gaitbase", BACKBONE | {"embed_dim": 256})
DEEPGAITV2 = ("deepgaitv2", BACKBONE | {"mode": "p3d", "layers": (1, 4, 4, 1)})
GAITSET = ("gaitset", {"channels": (32, 64, 128), "embed_dim": 256})
FIXED, DRAWN = RowShape(128, 30, 1), train_row_shape(128, 20, 40)
TEST = ordinary_test_rows(4, 256, 1)

# Name → kind, model, classes, precision, rows; the first ones matter most.
PROGRAMS: dict[str, tuple[str, tuple[str, dict[str, Any]], int, str, RowShape]] = {
    "gaitbase step": ("step", GAITBASE, 74, "bfloat16", FIXED),
    "gaitbase embedding, float16": ("embed", GAITBASE, 74, "float16", TEST),
    "gaitbase step, drawn, 20000 classes": ("step", GAITBASE, 20000, "bfloat16", DRAWN),
    "deepgaitv2-p3d step": ("step", DEEPGAITV2, 3000, "bfloat16", FIXED),
    "deepgaitv2-p3d embedding, float16": ("embed", DEEPGAITV2, 3000, "float16", TEST),
    "gaitbase embedding, bfloat16": ("embed", GAITBASE, 74, "bfloat16", TEST),
    "gaitbase embedding, float32": ("embed", GAITBASE, 74, "float32", TEST),
    "gaitbase step, float32": ("step", GAITBASE, 74, "float32", FIXED),
    "gaitset step": ("step", GAITSET, 0, "bfloat16", FIXED),
    "gaitset embedding, float16": ("embed", GAITSET, 0, "float16", TEST),
}
LOSSES = {"mcl": {"margin": 0.6, "gamma": 0.6}}
CALLS = 10


def seconds(call: Callable[[], object], rounds: int = 3) -> float:
    """Returns the median time per call, with many calls in flight together."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(CALLS):
            last = call()
        jax.block_until_ready(last)
        taken.append((time.perf_counter() - start) / CALLS)
    return statistics.median(taken)


def machine() -> dict[str, Any]:
    """Returns name, peak FLOP/s in bfloat16 and float32, and bandwidth in B/s of the first device."""
    on_gpu = jax.default_backend() != "cpu"
    n = 8192 if on_gpu else 512
    large = jnp.zeros((1 << 30 if on_gpu else 1 << 22) // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    found = {"name": jax.devices()[0].device_kind, "jax": jax.__version__, "platform": jax.default_backend()}
    found["bandwidth"] = 2 * large.nbytes / seconds(lambda: copy(large))
    for name, precision in (("bfloat16", None), ("float32", jax.lax.Precision.HIGHEST)):
        square = jnp.ones((n, n), name)
        product = jax.jit(lambda x, precision=precision: jnp.matmul(x, x, precision=precision))
        found[name] = 2 * n**3 / seconds(lambda product=product, square=square: product(square))
    return found


def batch_of(shape: RowShape) -> dict[str, np.ndarray]:
    """Returns a batch with full rows: equal clips, with an empty slot between two."""
    rng = np.random.default_rng(0)
    ids = np.full((shape.rows, shape.slots), EMPTY, np.int32)
    each = shape.slots // shape.segments
    for segment in range(shape.segments):
        ids[:, segment * each : (segment + 1) * each - (GAP if shape.segments > 1 else 0)] = segment
    labels = (np.arange(shape.rows * shape.segments, dtype=np.int32) // 4).reshape(shape.rows, -1)
    frames = rng.integers(0, 256, (shape.rows, shape.slots, 64, 44), np.uint8)
    return {"frames": frames, "segment_ids": ids, "labels": labels}


def step_program(model: Model, classes: int, shape: RowShape) -> tuple[Any, list[Any], Callable[[], object]]:
    """Returns the guarded step, its arguments, and a call that puts a batch on the device and trains."""
    mesh = data_mesh(jax.devices()[:1])
    losses = complete_losses(LOSSES | ({"cross_entropy": {}} if classes else {}))
    optimizer = OPTIMIZERS["sgd"](multi_step(1e-3, milestones=(1000,)), momentum=0.9, weight_decay=5e-4)
    step = compile_guarded(
        guarded(make_train_step(model, optimizer, losses), 0), mesh, compiler_options(training=True)
    )
    batch = batch_of(shape) | {"leave": np.zeros(1, bool)}
    state = create_state(*model.initial_arrays(0), optimizer)
    counter = jnp.asarray(start_counter())
    lowered_for = [state, counter, put_rows(batch, mesh)]

    def call() -> object:
        nonlocal state, counter
        state, counter, metrics = step(state, counter, put_rows(batch, mesh))
        return metrics

    return step, lowered_for, call


def embed_program(model: Model, shape: RowShape) -> tuple[Any, list[Any], Callable[[], object]]:
    """Returns the embedding, its arguments, and a call that puts a batch on the device and embeds it."""
    mesh = data_mesh(jax.devices()[:1])
    embed = embedding_program(model, mesh, compiler_options())
    arrays = model.initial_arrays(0)
    batch = {key: value for key, value in batch_of(shape).items() if key != "labels"}

    def call() -> object:
        rows = put_rows(batch, mesh)
        return embed(*arrays, rows["frames"], rows["segment_ids"], shape.segments)

    rows = put_rows(batch, mesh)
    return embed, [*arrays, rows["frames"], rows["segment_ids"], shape.segments], call


def measure(name: str) -> dict[str, Any]:
    """Compiles and times one program."""
    kind, (model_name, sizes), classes, precision, shape = PROGRAMS[name]
    sizes = sizes | ({"num_classes": classes} if classes else {})
    model = create_model(model_name, sizes, dtype=precision)
    if kind == "step":
        function, arguments, call = step_program(model, classes, shape)
    else:
        function, arguments, call = embed_program(model, shape)
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    compiled = lowered.compile()
    compiling = time.perf_counter() - start
    counts = count(compiled.as_text())
    memory = compiled.memory_analysis()
    frames = int((batch_of(shape)["segment_ids"] >= 0).sum())
    found = {"program": name, "precision": precision, "frames": frames, "compile_s": compiling}
    found |= {"kernels": counts.kernels, "bytes": counts.traffic, "temporary": memory.temp_size_in_bytes}
    found |= {"flops": (lowered.cost_analysis() or {}).get("flops", 0.0), "seconds": seconds(call)}
    return found


def line(found: dict[str, Any], card: dict[str, Any]) -> str:
    peak = card["float32" if found["precision"] == "float32" else "bfloat16"]
    best = max(found["flops"] / peak, found["bytes"] / card["bandwidth"])
    return (
        f"{found['program']:<38}{found['kernels']:>6}{found['flops'] / 1e12:>8.2f}"
        f"{found['bytes'] / 1e9:>8.1f}"
        f"{1e3 * best:>9.1f}{1e3 * found['seconds']:>10.1f}{best / found['seconds']:>7.0%}"
        f"{found['frames'] / found['seconds']:>11,.0f}{found['compile_s']:>9.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=5, help="time after which no more programs start (5)"
    )
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--one", choices=["machine", *PROGRAMS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(machine() if args.one == "machine" else measure(args.one)))
        return
    end = time.monotonic() + 60 * args.minutes
    card = apart("machine", 120)
    print(
        f"{card['name']}, jax {card['jax']}: {card['bfloat16'] / 1e12:.0f} TFLOP/s in bfloat16, "
        f"{card['float32'] / 1e12:.1f} in float32, {card['bandwidth'] / 1e12:.2f} TB/s",
        flush=True,
    )
    columns = f"{'kern.':>6}{'TFLOP':>8}{'GB':>8}{'best ms':>9}{'measured':>10}{'':>7}"
    print(f"{'':<38}{columns}{'frames/s':>11}{'compile':>9}")
    results: list[dict[str, Any]] = []
    for name in args.programs:
        if time.monotonic() > end:
            print(f"{name}: no time left")
            continue
        try:
            results.append(apart(name, end - time.monotonic() + 60))
            print(line(results[-1], card), flush=True)
        except subprocess.SubprocessError as error:
            print(f"{name}: {error}", flush=True)
        args.out.write_text(json.dumps({"card": card, "programs": results}, indent=1))


def apart(name: str, timeout: float) -> dict[str, Any]:
    """Runs one measurement in a separate process, so that its memory and crashes do not affect others."""
    command = [sys.executable, __file__, "--one", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=timeout)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
