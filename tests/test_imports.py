"""Imports follow the arrows of the architecture, without a circle, and what needs no JAX imports none."""

import ast
import graphlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mcl_jax"

# A layer is a module or a package with all that is in it; the longest name that fits counts.
# Layer → the layers that it imports. Each of these arrows must exist; a new one is added here first.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "digest": set(),
    "files": {"errors", "retry"},
    "retry": {"errors"},
    "safe_pickle": set(),
    "trees": set(),
    "arguments": {"errors"},
    "exhausted": set(),
    "command_line": {"errors", "exhausted", "leaving", "terminal"},
    "config_line": {"config", "convert", "errors", "trees"},
    "leaving": set(),
    "terminal": set(),
    "hosts": {"errors"},
    "company": {"errors", "leaving"},
    "workdir": {"errors", "files", "models", "trees"},
    "keeping": {"errors", "files"},
    "trained_on": {"data.fingerprint", "errors", "files"},
    "guards": {
        "checkpoint",
        "errors",
        "files",
        "keeping",
        "losses",
        "models",
        "sharding",
        "train_state",
        "train_step",
        "trees",
    },
    "progress": {"evaluation", "waiting"},
    "optim": {"arguments", "errors"},
    "runtime": {"files"},
    "native": {"files"},
    "sharding": set(),
    "models": {"arguments", "digest", "errors", "native", "trees"},
    "losses": {"arguments", "errors", "models"},
    "data.workers": set(),
    "data.sequences": {"errors", "files"},
    "data.stores": {"data.sequences", "digest", "errors", "files", "retry", "safe_pickle"},
    "data.feed": {"arguments", "data.sequences", "data.workers", "errors"},
    "data.fingerprint": {"data.feed", "data.sequences", "errors"},
    "data.prepare": {"data.sequences", "data.stores", "data.workers", "errors", "files", "waiting"},
    "data.datasets": {"data.prepare", "data.sequences", "data.stores", "errors"},
    "walkers": {"data.prepare", "data.stores", "errors", "files", "footage"},
    "evaluation": {"digest", "errors", "files", "native", "npz", "terminal"},
    "config": {
        "arguments",
        "data.datasets",
        "data.feed",
        "errors",
        "evaluation",
        "files",
        "losses",
        "models",
        "optim",
    },
    "footage": {"data.prepare", "errors", "files"},
    "gallery": {"digest", "errors", "evaluation", "files"},
    "train_state": {"trees"},
    "train_step": {"losses", "models", "train_state", "trees"},
    "pending_save": {"retry", "train_state"},
    "checkpoint": {
        "arguments",
        "errors",
        "exhausted",
        "keeping",
        "models",
        "pending_save",
        "retry",
        "train_state",
        "trees",
    },
    "checkpoints": {"checkpoint", "command_line", "errors", "keeping", "runtime"},
    "convert": {
        "arguments",
        "build",
        "checkpoint",
        "config",
        "data.datasets",
        "data.feed",
        "errors",
        "files",
        "models",
        "safe_pickle",
        "train_state",
        "trees",
    },
    "weights": {"checkpoint", "convert", "errors", "models", "packed_weights", "trees"},
    "packed_weights": {"digest", "errors", "files", "models", "npz", "trees"},
    "npz": {"errors"},
    "whitening": {"errors"},
    "waiting": set(),
    "embed": {
        "data.feed",
        "data.sequences",
        "embed_step",
        "errors",
        "evaluation",
        "models",
        "runtime",
        "sharding",
        "trees",
        "waiting",
    },
    "build": {
        "config",
        "data.datasets",
        "data.feed",
        "data.sequences",
        "embed",
        "errors",
        "models",
        "optim",
        "runtime",
        "train_step",
    },
    "evaluate": {
        "build",
        "checkpoint",
        "config",
        "data.datasets",
        "data.feed",
        "embed",
        "errors",
        "evaluation",
        "models",
        "trees",
        "weights",
    },
    "training": {
        "build",
        "checkpoint",
        "config",
        "data.datasets",
        "data.feed",
        "data.fingerprint",
        "data.sequences",
        "embed",
        "errors",
        "evaluate",
        "guards",
        "keeping",
        "leaving",
        "models",
        "progress",
        "runtime",
        "sharding",
        "train_state",
        "trained_on",
        "trees",
        "weights",
        "workdir",
    },
    "describe": {
        "build",
        "config",
        "data.datasets",
        "data.feed",
        "errors",
        "gpu_check",
        "guards",
        "models",
        "runtime",
        "train_state",
        "trees",
    },
    "gpu_check": {
        "build",
        "config",
        "data.feed",
        "embed_step",
        "errors",
        "guards",
        "models",
        "sharding",
        "train_state",
    },
    "embed_step": {"models", "sharding", "trees"},
}
# These may import everything, and only each other import them.
TOP = {"api", "cli", "commands", "exporting", "launch", "main"}

# Modules that work where none of these is installed, or that would start slowly with them.
FREE_OF: dict[str, set[str]] = {
    "mcl_jax": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
    "mcl_jax.cli.program": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
    "mcl_jax.evaluation.metrics": {"jax", "flax", "torch", "tensorflow"},
    "mcl_jax.evaluation.protocols": {"jax", "flax", "torch", "tensorflow"},
    "mcl_jax.evaluation.scoring": {"jax", "flax", "torch", "tensorflow"},
    "mcl_jax.evaluation.verification": {"jax", "flax", "torch", "tensorflow"},
    "mcl_jax.data.datasets": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
    "mcl_jax.data.feed.loaders": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
    "mcl_jax.data.feed.clip_sheet": {"jax", "flax", "torch", "tensorflow"},
    "mcl_jax.data.feed.prefetch": {"flax", "torch", "tensorflow"},  # Grain imports JAX
    "mcl_jax.data.prepare.preparation": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets"},
    "mcl_jax.data.prepare.records.folder": {"flax", "torch", "tensorflow"},
    "mcl_jax.footage": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
    "mcl_jax.walkers": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
}

PATHS = {
    ".".join(("mcl_jax", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def import_nodes(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yields the import statements of a module, and whether each waits for a function to be called."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        yield from import_nodes(node, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yields the full names of what a statement imports, `from package import module` included."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, "imports are absolute here"
    for alias in node.names:
        name = f"{node.module}.{alias.name}"
        yield name if name in PATHS else str(node.module)


def arrows(name: str, *, lazy: bool) -> set[str]:
    """Returns the modules of this package that a module imports at once, or only when it is used."""
    nodes = import_nodes(ast.parse(PATHS[name].read_text()))
    found = {target for node, waits in nodes if waits == lazy for target in imported(node)}
    return (found & PATHS.keys()) - {name}


EAGER = {name: arrows(name, lazy=False) for name in PATHS}
LAZY = {name: arrows(name, lazy=True) for name in PATHS}


def layer(name: str) -> str:
    inside = name.removeprefix("mcl_jax.")
    fitting = [known for known in {*ALLOWED, *TOP} if inside == known or inside.startswith(f"{known}.")]
    assert fitting, f"{name} is in no layer; add it to ALLOWED"
    return max(fitting, key=len)


def layers() -> dict[str, set[str]]:
    """Returns the arrows between layers that there are, those of functions included."""
    found: dict[str, set[str]] = {}
    for name in PATHS.keys() - {"mcl_jax", "mcl_jax.data"}:
        here = layer(name)
        targets = {layer(target) for target in EAGER[name] | LAZY[name] if target != "mcl_jax"}
        found.setdefault(here, set()).update(targets - {here})
    return found


@pytest.mark.parametrize("here", sorted(ALLOWED))
def test_a_layer_imports_what_it_is_allowed_to_and_no_arrow_is_allowed_in_vain(here):
    assert layers()[here] == ALLOWED[here]


def test_every_top_module_exists():
    assert layers().keys() == ALLOWED.keys() | TOP


def test_no_circle_between_layers():
    """`prepare` raises CycleError."""
    graphlib.TopologicalSorter(ALLOWED).prepare()


def test_no_circle_between_modules():
    try:
        graphlib.TopologicalSorter({name: EAGER[name] | LAZY[name] for name in PATHS}).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
        waiting = [f"{b} → {a}" for a, b in itertools.pairwise(circle) if a not in EAGER[b]]
        raise AssertionError(f"{' ← '.join(circle)}; inside of functions: {waiting}") from None


def test_the_graph_has_the_arrows_of_the_source():
    """Else an empty graph would pass."""
    assert "mcl_jax.data.stores.tree" in EAGER["mcl_jax.data.stores.listing"]
    assert "mcl_jax.data.feed.augment" in EAGER["mcl_jax.data.feed.loaders"]  # from package import module
    assert "mcl_jax.data.prepare.records.folder" in LAZY["mcl_jax.data.prepare.preparation"]
    assert "mcl_jax.data.prepare.records.folder" not in EAGER["mcl_jax.data.prepare.preparation"]


@pytest.mark.parametrize("module", sorted(FREE_OF))
def test_heavy_packages_stay_out(module):
    code = f"import sys, {module}; print(*sorted({FREE_OF[module]!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_torch_is_imported_by_the_reader_of_its_older_files_alone_and_tensorflow_never():
    found = {
        (name, root, waits)
        for name, path in PATHS.items()
        for node, waits in import_nodes(ast.parse(path.read_text()))
        for root in {target.split(".")[0] for target in imported(node)} & {"torch", "tensorflow"}
    }
    assert found == {("mcl_jax.convert.torch_reader", "torch", True)}
