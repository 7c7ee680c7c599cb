"""Estimates memory and minimum time of a config's programs on a card that is not present."""

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from mcl_jax.config import model_block
from mcl_jax.gpu_check.cards import Card
from mcl_jax.gpu_check.child import CompilerAbortError, apart
from mcl_jax.gpu_check.compiling import Compiled, absent_devices, compile_program, flops_of
from mcl_jax.gpu_check.programs import Program, Variant, embedding, training_step
from mcl_jax.models.registry import model_of
from mcl_jax.runtime.mesh import data_mesh

JAX_SHARE = 0.75
"""Share of a GPU's memory that JAX takes by default (XLA_PYTHON_CLIENT_MEM_FRACTION)."""

MOST_SHARE = 0.92
"""Largest share for JAX; the rest is for the driver and cuDNN's scratch memory."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A program to compile.

    Attributes:
        name: name to show.
        precision: type that the backbone computes in.
        remat: whether activations are computed again for the gradient; None for the embedding.
    """

    name: str
    precision: str
    remat: bool | None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A compiled program on one device of a card.

    Attributes:
        task: the program.
        compiled: its figures; None if the compiler aborted.
        error: why the compiler aborted; "" if it did not.
        seconds_by_flops: minimum time for its operations.
        seconds_by_bytes: minimum time for its traffic.
        memory_gb: memory while it runs, 10⁹ bytes.
        fits: `yes`, `no`, or the value of XLA_PYTHON_CLIENT_MEM_FRACTION with which it fits.
    """

    task: Task
    compiled: Compiled | None
    error: str = ""
    seconds_by_flops: float = 0.0
    seconds_by_bytes: float = 0.0
    memory_gb: float = 0.0
    fits: str = ""

    @property
    def seconds(self) -> float:
        """Least time: the longer of the two."""
        return max(self.seconds_by_flops, self.seconds_by_bytes)

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        values = dataclasses.asdict(self)
        return values | {"seconds": self.seconds}


STEP = "training step"


def tasks_of(config: ConfigDict) -> list[Task]:
    """Returns the programs to estimate: the step, also with remat and in the other type; the embedding."""
    precision = config.train.precision
    other = "float32" if precision == "bfloat16" else "bfloat16"
    test = config.eval.precision or "float16"
    return [
        Task(f"{STEP}, {precision}", precision, False),
        Task(f"{STEP}, {precision}, train.remat", precision, True),
        Task(f"{STEP}, {other}", other, False),
        Task(f"embedding, {test}", test, None),
    ]


def estimate(config: ConfigDict, classes: int | None, card: Card, devices: int, task: Task) -> Estimate:
    """Compiles one program for a card, in a separate process.

    Args:
        config: a valid config.
        classes: number of classes; None for a model without a classifier.
        card: the GPU.
        devices: number of these GPUs.
        task: the program.

    Raises:
        UserError: if the compiler is not installed, or rows cannot be split over the devices.
    """
    try:
        compiled = apart(compiled_apart, config, classes, card, devices, task)
    except CompilerAbortError as error:
        return Estimate(task, None, str(error))
    except jax.errors.JaxRuntimeError as error:
        return Estimate(task, None, f"XLA's GPU compiler failed: {str(error).splitlines()[0]}")
    peak = card.peak(task.precision)
    rest = card.peak("float32" if task.precision == "float32" else "tf32")
    return Estimate(
        task,
        compiled,
        "",
        (compiled.flops - compiled.float32_flops) / peak + compiled.float32_flops / rest,
        compiled.counts.traffic / (card.bandwidth_gb * 1e9),
        compiled.memory / 1e9,
        _fits(compiled.memory, card.memory_gb * 1e9),
    )


def compiled_apart(config: ConfigDict, classes: int | None, card: Card, devices: int, task: Task) -> Compiled:
    """Compiles a program; `estimate` calls it in a separate process."""
    block = model_block(config) | ({} if classes is None else {"num_classes": classes})

    def program(mesh: jax.sharding.Mesh) -> Program:
        model = model_of(block, dtype=task.precision)
        if task.remat is not None:
            return training_step(config, model, mesh, Variant(task.precision, task.remat))
        return embedding(config, model, mesh, task.precision)

    compiled, _ = compile_program(program(absent_devices(card, devices)))
    # Counts the whole program on one real device, because shares of absent devices cannot be counted.
    flops, in_float32 = flops_of(program(data_mesh(jax.devices()[:1])))
    return dataclasses.replace(compiled, flops=flops / devices, float32_flops=in_float32 / devices)


def _fits(memory: float, available: float) -> str:
    if memory <= JAX_SHARE * available:
        return "yes"
    return f"with {MOST_SHARE}" if memory <= MOST_SHARE * available else "no"


def lines(card: Card, devices: int, estimates: list[Estimate]) -> list[str]:
    """Returns a table of estimates as text."""
    head = f"{card.name}, {devices} device{'s' if devices > 1 else ''}: compiled by XLA, without the card"
    table = [
        f"{head}; minimum time of a device by its data sheet, nothing is measured",
        f"{'':<40}{'kernels':>8}{'memory':>10}{'fits':>11}{'TFLOP':>8}{'traffic':>10}{'at best':>10}"
        "  bound by",
    ]
    for item in estimates:
        compiled = item.compiled
        if compiled is None:
            table.append(f"{item.task.name:<40}{item.error}")
            continue
        bound = "products" if item.seconds_by_flops > item.seconds_by_bytes else "memory"
        table.append(
            f"{item.task.name:<40}{compiled.counts.kernels:>8}{item.memory_gb:>7.1f} GB{item.fits:>11}"
            f"{compiled.flops / 1e12:>8.1f}{compiled.counts.traffic / 1e9:>7.1f} GB"
            f"{1e3 * item.seconds:>7.1f} ms  {bound}"
        )
        for kind, (number, size) in compiled.counts.collectives.items():
            table.append(f"    {number} × {kind}, {size / 1e6:.1f} MB together")
    if any(item.fits.startswith("with") for item in estimates):
        table.append(f"fits with {MOST_SHARE}: with XLA_PYTHON_CLIENT_MEM_FRACTION={MOST_SHARE}")
    if not card.has_bfloat16:
        table.append(f"{card.name} has no bfloat16: its products are float32 there; see docs/gpus.md")
    return table
