"""Runs XLA's GPU compiler on a machine without a GPU.

The compiler comes with the extra `gpu-check`. Autotuning needs the card itself, so cuDNN's choice of
algorithm for a convolution, and its scratch memory, are unknown here.
"""

import dataclasses
import importlib.util
import os
import re
from typing import Any

from jax.experimental import topologies
from jax.sharding import Mesh

from mcl_jax.errors import UserError
from mcl_jax.gpu_check.cards import Card
from mcl_jax.gpu_check.counting import Counts, count
from mcl_jax.gpu_check.programs import Program
from mcl_jax.runtime.mesh import data_mesh

MISSING = (
    "--gpu: XLA's GPU compiler is not installed: pip install 'mcl_jax[gpu-check]' "
    "(jax-cuda12-plugin and what it needs, 220 MB; no GPU, driver or CUDA is needed)"
)
_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program compiled for a card, and its figures for one device.

    Attributes:
        counts: counts of the scheduled program.
        temporary: bytes between inputs and outputs.
        arguments: bytes of the inputs.
        outputs: bytes of the outputs that do not reuse the memory of inputs.
        flops: operations of the program before it is optimised; see `flops_of`.
        float32_flops: the part of these in float32 matrix products, such as heads and losses.
    """

    counts: Counts
    temporary: int
    arguments: int
    outputs: int
    flops: float = 0.0
    float32_flops: float = 0.0

    @property
    def memory(self) -> int:
        """Bytes on a device while the program runs."""
        return self.temporary + self.arguments + self.outputs


def is_installed() -> bool:
    """Returns whether XLA's GPU compiler is installed."""
    if importlib.util.find_spec("jax_plugins") is None:
        return False
    return any(importlib.util.find_spec(name) is not None for name in _PLUGINS)


def absent_devices(card: Card, devices: int) -> Mesh:
    """Returns a mesh over GPUs that are not present.

    Raises:
        UserError: if the compiler is not installed.
    """
    if not is_installed():
        raise UserError(MISSING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # otherwise each start prints that there is no driver
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=card.target, topology=f"1x1x{devices}"
    )
    return data_mesh(topology.devices)


def compile_program(program: Program) -> tuple[Compiled, str]:
    """Compiles a program whose shardings are over absent devices; returns its figures and its text.

    XLA may abort the process, so call this in a separate one; see `child`.
    """
    function, shapes = program
    lowered = function.trace(*shapes).lower(lowering_platforms=("cuda",))
    compiled = lowered.compile()
    text = compiled.as_text()
    memory: Any = compiled.memory_analysis()
    return Compiled(
        counts=count(text),
        temporary=memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
    ), text


def flops_of(program: Program) -> tuple[float, float]:
    """Returns the number of all operations of a program, and of its float32 matrix products.

    Args:
        program: a program for one real device.
    """
    function, shapes = program
    lowered = function.trace(*shapes).lower(lowering_platforms=("cuda",))
    cost = lowered.cost_analysis() or {}
    return float(cost.get("flops", 0.0)), _float32_products(lowered.compiler_ir(dialect="hlo").as_hlo_text())


_DOT = re.compile(
    r"= f32\[([\d,]*)\]\S* dot\(%?([\w.\-]+), .*lhs_contracting_dims=\{([\d,]+)\}"
)  # fmt: skip
_SHAPE_OF = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = \w+\[([\d,]*)\]")


def _float32_products(text: str) -> float:
    """Returns the operations of a program's matrix products in float32."""
    shapes: dict[str, list[int]] = {}
    total = 0.0
    for line in text.splitlines():
        if named := _SHAPE_OF.match(line):
            shapes[named[1]] = [int(n) for n in named[2].split(",") if n]
        if product := _DOT.search(line):
            left, axes = shapes.get(product[2], []), [int(n) for n in product[3].split(",")]
            size = 2.0
            for n in (*(int(n) for n in product[1].split(",") if n), *(left[axis] for axis in axes)):
                size *= n
            total += size
    return total
