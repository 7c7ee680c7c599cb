"""Programs of the published recipes, compiled for an H100 without having one: few kernels and copies.

    make test-gpu

Figures are stored in `expected.json`, by version of JAX; after an intended change, write them again with
`python tests/gpu_check/test_programs.py`.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mcl_jax.config import load_config
from mcl_jax.evaluation.distances import _tile_distances
from mcl_jax.gpu_check.cards import CARDS
from mcl_jax.gpu_check.child import apart
from mcl_jax.gpu_check.compiling import Compiled, absent_devices, compile_program, is_installed
from mcl_jax.gpu_check.estimate import Estimate, Task, estimate
from mcl_jax.models.registry import create_model
from mcl_jax.runtime.mesh import replicated

EXPECTED = Path(__file__).with_name("expected.json")
STEP, EMBEDDING = Task("step", "bfloat16", False), Task("embedding", "float16", None)
# Name → recipe, classes, devices, program.
PROGRAMS = {
    "gaitset step": ("casiab_gaitset", None, 1, STEP),
    "gaitset embedding": ("casiab_gaitset", None, 1, EMBEDDING),
    "gaitbase step": ("casiab_mcl", 74, 1, STEP),
    "gaitbase step on 8": ("casiab_mcl", 74, 8, STEP),
    "gaitbase step, drawn lengths": ("grew_mcl", 20000, 1, STEP),
    "gaitbase step, float32": ("casiab_mcl", 74, 1, Task("step", "float32", False)),
    "gaitbase embedding": ("casiab_mcl", 74, 1, EMBEDDING),
    "gaitbase embedding, float32": ("casiab_mcl", 74, 1, Task("embedding", "float32", None)),
    "deepgaitv2-p3d step": ("gait3d_deepgaitv2", 3000, 1, STEP),
    "deepgaitv2-p3d step, remat": ("gait3d_deepgaitv2", 3000, 1, Task("step", "bfloat16", True)),
    "deepgaitv2-p3d embedding": ("gait3d_deepgaitv2", 3000, 1, EMBEDDING),
    "deepgaitv2-3d step": ("grew_deepgaitv2", 20000, 1, STEP),
    "gaitpart step": ("casiab_gaitpart", None, 1, STEP),
    "gaitpart embedding": ("casiab_gaitpart", None, 1, EMBEDDING),
    "gaitgl step": ("casiab_gaitgl", 74, 1, STEP),
    "gaitgl embedding": ("casiab_gaitgl", 74, 1, EMBEDDING),
    "gaitgl, large, step": ("grew_gaitgl", 20000, 1, STEP),
    "gaitgl, large, embedding": ("grew_gaitgl", 20000, 1, EMBEDDING),
    "swingait embedding": ("gait3d_swingait", 3000, 1, EMBEDDING),
    "foundationgait embedding": ("gait3d_foundationgait", 3000, 1, EMBEDDING),
    "the model in the package, step": ("walkers_world", 2000, 1, STEP),
    "the model in the package, embedding": ("walkers_world", 2000, 1, EMBEDDING),
}
OTHERS = ("distances, euc", "distances, cos", "initial parameters")
_LARGEST_MOVE = 64e6  # bytes; an activation of the smallest layer has 170 MB
_LARGER_MOVES = {
    "deepgaitv2-3d step": 350e6,  # one activation for a gradient of a 3-D convolution
    "gaitgl step": 120e6,  # one behind its convolution with stride 3 in time
    "swingait embedding": 180e6,  # features that are resized, 32 × 22 to 30 × 20
}

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="XLA's GPU compiler is not installed: make test-gpu gets it"
)


def compiled(name: str) -> Estimate:
    recipe, classes, devices, task = PROGRAMS[name]
    return estimate(load_config(recipe), classes, CARDS["h100"], devices, task)


def figures(found: Estimate) -> dict[str, float]:
    counts = found.compiled.counts
    return {"temporary": found.compiled.temporary, "traffic": counts.traffic, "kernels": counts.kernels}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_compiles_and_is_lean(name):
    found = compiled(name)
    assert found.compiled is not None, found.error
    counts = found.compiled.counts
    assert counts.host_calls == 0
    assert counts.unbounded_loops == 0, "the host would wait for each turn"
    assert counts.scatters == 0
    bound = _LARGER_MOVES.get(name, _LARGEST_MOVE)
    assert counts.largest_move < bound, "an activation is copied or transposed between layers"
    if PROGRAMS[name][2] > 1:
        check_collectives(counts.collectives, found.compiled.arguments)
    expected = json.loads(EXPECTED.read_text()).get(jax.__version__, {}).get(name)
    if expected is None:
        pytest.skip(f"compiles and is lean; there are no figures of it for jax {jax.__version__}")
    for key, value in figures(found).items():
        assert value == pytest.approx(expected[key], rel=0.05), key


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_programs_compile(name, monkeypatch):
    monkeypatch.setenv("MCL_JAX_NATIVE", "0")  # else the child takes itself for a machine without a GPU
    counts = apart(compiled_other, name).counts
    assert counts.host_calls == counts.unbounded_loops == 0


def compiled_other(name: str) -> Compiled:
    """Compiles what runs beside steps and embeddings: distances, initial parameters."""
    mesh = absent_devices(CARDS["h100"], 1)
    if name == "initial parameters":
        model = create_model("gaitbase", {"num_classes": 74}, dtype="bfloat16")
        return compile_program(
            (jax.jit(lambda: model.initial_arrays(0), out_shardings=replicated(mesh)), ())
        )[0]
    shape = jax.ShapeDtypeStruct((2048, 16, 256), jnp.float32)
    function = functools.partial(_tile_distances, metric=name.removeprefix("distances, "))
    return compile_program((jax.jit(function, in_shardings=replicated(mesh)), (shape, shape)))[0]


def check_collectives(collectives: dict[str, tuple[int, float]], arguments: int) -> None:
    """Gradients are added once, in float32: as many bytes as there are parameters."""
    assert not {kind for kind in collectives if "16" in kind}, "something is added in half precision"
    added = sum(size for kind, (_, size) in collectives.items() if kind == "all-reduce f32")
    parameters = 4 * 7_305_000
    assert parameters <= added + collectives.get("reduce-scatter f32", (0, 0))[1] * 8 <= 1.7 * parameters
    assert added < arguments


def main() -> None:
    """Writes the figures of this version of JAX."""
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    known[jax.__version__] = {name: figures(compiled(name)) for name in PROGRAMS}
    EXPECTED.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
