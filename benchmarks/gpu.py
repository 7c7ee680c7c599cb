"""What a GPU reaches of its own roofline with the published models: training steps and embedding in bfloat16.

    python benchmarks/gpu.py                      # five minutes on one GPU
    python benchmarks/gpu.py --computed h100      # no GPU needed: what one could reach at best, computed

Operations are those of the program, bytes are the fewest that must go through memory: every output of a
convolution is written and read, in training nine times over (written, read for the statistics, read
and written normalised, kept and read again by the two gradients, whose own output is written and read). The
fastest a step could be is the larger of operations / peak and bytes / bandwidth.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from published import SIZES

from mcl_jax.losses.total import complete_losses
from mcl_jax.models.model import Model, create_model
from mcl_jax.optim import OPTIMIZERS, multi_step
from mcl_jax.runtime import compiler_options
from mcl_jax.train_state import create_state
from mcl_jax.train_step import make_train_step

DTYPE = "bfloat16"
PASSES = {"train": 9, "embed": 2}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Peak of a bfloat16 matrix product, FLOP/s, and bandwidth of the memory, B/s."""

    name: str
    peak: float
    bandwidth: float


# The maker's data sheet of the SXM5 board: dense bfloat16, HBM3.
H100 = Machine("H100 SXM (data sheet)", 989e12, 3.35e12)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program has to do: floating point operations and bytes through memory."""

    flops: float
    bytes: float

    def fastest(self, machine: Machine) -> float:
        """Seconds at best."""
        return max(self.flops / machine.peak, self.bytes / machine.bandwidth)


def measured_machine() -> Machine:
    """Peak and bandwidth of the first device, as large products and copies reach them."""
    n = 8192 if jax.default_backend() != "cpu" else 1024
    square = jnp.ones((n, n), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    copy = jax.jit(lambda x: x + 1)
    vector = jnp.ones(n * n, jnp.float32)
    peak = 2 * n**3 / seconds(lambda: product(square))
    return Machine(str(jax.devices()[0].device_kind), peak, 2 * vector.nbytes / seconds(lambda: copy(vector)))


def seconds(call: Callable[[], object], rounds: int = 5) -> float:
    """Median time of a call, warm."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def convolution_bytes(function: Callable[..., object], *arguments: object) -> float:
    """Bytes of the outputs of all convolutions of a forward pass."""

    def of(jaxpr: core.Jaxpr) -> float:
        total = 0.0
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("conv_general_dilated", "custom_vjp_call"):
                total += sum(out.aval.size * out.aval.dtype.itemsize for out in equation.outvars)
                continue
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
                if _is_jaxpr(inner):
                    total += of(getattr(inner, "jaxpr", inner))
                    if equation.primitive.name == "cond":
                        break  # one branch for each platform
        return total

    return of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _is_jaxpr(x: object) -> bool:
    return isinstance(x, core.Jaxpr | core.ClosedJaxpr)


class Programs:
    """A model's training step and embedding, with a batch."""

    def __init__(self, name: str, sequences: int, frames: int):
        self.model: Model = create_model(name, SIZES[name], dtype=DTYPE)
        classifies = "num_classes" in SIZES[name]
        losses = {"mcl": {"margin": 0.6, "gamma": 0.6}} | ({"cross_entropy": {}} if classifies else {})
        schedule = multi_step(1e-3, milestones=(1000,))
        self.optimizer = OPTIMIZERS["sgd"](schedule, momentum=0.9, weight_decay=5e-4)
        self.update = make_train_step(self.model, self.optimizer, complete_losses(losses))
        rng = np.random.default_rng(0)
        self.batch = {
            "frames": rng.integers(0, 256, (sequences, frames, 64, 44), np.uint8),
            "segment_ids": np.zeros((sequences, frames), np.int32),
            "labels": (np.arange(sequences, dtype=np.int32) // 4)[:, None],
        }

    def embed(self, params, batch_stats, frames, segment_ids):
        module = self.model.merge(params, batch_stats)
        return module(frames, segment_ids, num_segments=1, train=False).embeddings

    def work(self, kind: str) -> Work:
        """Counted on the program as lowered for CUDA; nothing runs."""
        params, batch_stats = self.model.shapes()
        inputs = self.batch["frames"], self.batch["segment_ids"]
        state = jax.eval_shape(lambda: create_state(*self.model.initial_arrays(0), self.optimizer))
        program = {
            "train": (self.update, state, self.batch),
            "embed": (self.embed, params, batch_stats, *inputs),
        }
        function, *arguments = program[kind]
        traced = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
        outputs = convolution_bytes(self.embed, params, batch_stats, *inputs)
        return Work(float(traced.cost_analysis()["flops"]), PASSES[kind] * outputs)

    def seconds(self, kind: str) -> float:
        """Measured on the first device."""
        batch = jax.device_put(self.batch)
        if kind == "embed":
            embed = jax.jit(self.embed, compiler_options=compiler_options())
            arrays = jax.device_put(self.model.initial_arrays(0))
            return seconds(lambda: embed(*arrays, batch["frames"], batch["segment_ids"]))
        step = jax.jit(self.update, donate_argnums=0, compiler_options=compiler_options(training=True))
        state = jax.device_put(create_state(*self.model.initial_arrays(0), self.optimizer))

        def call() -> object:
            nonlocal state
            state, metrics = step(state, batch)
            return metrics

        return seconds(call)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--computed", choices=["h100"], help="compute only, for this machine")
    args = parser.parse_args()
    machine = H100 if args.computed else measured_machine()
    print(f"{machine.name}: {machine.peak / 1e12:.1f} TFLOP/s, {machine.bandwidth / 1e12:.2f} TB/s", end="")
    print(f"; {args.sequences} sequences of {args.frames} frames, {DTYPE}")
    print(f"{'':<18}{'TFLOP':>8}{'GB':>8}{'at best ms':>12}{'bound by':>12}{'measured ms':>13}{'share':>7}")
    for name in args.models:
        programs = Programs(name, args.sequences, args.frames)
        for kind in PASSES:
            work = programs.work(kind)
            best = work.fastest(machine)
            bound = "products" if work.flops / machine.peak >= best else "memory"
            line = f"{name + ', ' + kind:<18}{work.flops / 1e12:>8.2f}{work.bytes / 1e9:>8.1f}"
            line += f"{1e3 * best:>12.1f}{bound:>12}"
            if not args.computed:
                taken = programs.seconds(kind)
                line += f"{1e3 * taken:>13.1f}{best / taken:>7.0%}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
