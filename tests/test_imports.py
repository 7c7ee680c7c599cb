"""Imports follow the order of the architecture, without cycles; JAX is imported only where needed."""

import ast
import graphlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mcl_jax"

# Rooms from the lowest to the highest: a room may import those before it, and none behind it.
# A room is a folder of the package, of data/ a folder or file in it, or a file on the doorstep.
ROOMS = (
    *("errors", "utils", "runtime", "loggers", "ops", "evaluation", "models", "losses"),
    *(
        "data.sequences",
        "data.stores",
        "data.first_look",
        "data.feed",
        "data.fingerprint",
        "data.prepare",
    ),
    *("data.datasets", "footage", "walkers", "gallery"),
    *("training", "embed_step", "embed", "explanation", "config", "build", "gpu_check", "describe"),
    *(
        "workdir",
        "convert",
        "hub",
        "weights",
        "evaluate",
        "train_start",
        "train_loop",
        "api",
        "exporting",
        "model_check",
        "reproduction",
        "serving",
        "cli",
        "main",
    ),
)

# What a room may not import although it lies lower.
FORBIDDEN: dict[str, set[str]] = {
    "loggers": {"runtime"},
    "evaluation": {"runtime", "loggers"},
    "models": {"evaluation", "runtime"},
    "losses": {"evaluation", "runtime"},
    "footage": {"models", "losses", "evaluation", "runtime", "ops"},
    "walkers": {"models", "losses", "evaluation", "runtime", "ops"},
    "gallery": {"models", "losses", "footage", "walkers"},
}

# Modules that work where none of these is installed, or that would start slowly with them.
FREE_OF: dict[str, set[str]] = {
    "mcl_jax": {"jax", "flax", "torch", "tensorflow", "tensorflow_datasets", "grain"},
    "mcl_jax.api": {
        *("torch", "tensorflow", "tensorflow_datasets", "matplotlib", "jinja2"),
        *("tensorboardX", "wandb", "mlflow"),
    },
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


def room(name: str) -> str:
    folder, *rest = name.split(".")[1:]
    return f"{folder}.{rest[0]}" if folder == "data" and rest else folder


def arrows_between_rooms() -> set[tuple[str, str]]:
    inside = PATHS.keys() - {"mcl_jax", "mcl_jax.data"}
    pairs = ((room(name), room(target)) for name in inside for target in (EAGER[name] | LAZY[name]) & inside)
    return {(here, there) for here, there in pairs if here != there}


def test_every_folder_is_in_the_list_of_the_architecture():
    assert {room(name) for name in PATHS.keys() - {"mcl_jax", "mcl_jax.data"}} == set(ROOMS)


def test_imports_only_go_down_the_list():
    wrong = {
        f"{here} → {there}"
        for here, there in arrows_between_rooms()
        if ROOMS.index(there) > ROOMS.index(here) or there in FORBIDDEN.get(here, ())
    }
    assert wrong == set()


def test_few_modules_are_at_the_top_of_the_package():
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 14


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
