"""Imports follow the arrows of the architecture, and scoring needs no JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mcl_jax"

# Layer → the layers it may import, besides itself and errors.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "command_line": set(),
    "safe_pickle": set(),
    "data": {"safe_pickle"},
    "walkers": {"data"},
    "models": set(),
    "losses": set(),
    "optim": set(),
    "runtime": set(),
    "sharding": set(),
    "evaluation": {"data"},
    "config": {"data", "evaluation"},
    "train_state": {"models"},
    "train_step": {"models", "losses", "sharding", "train_state"},
    "checkpoint": {"train_state"},
    "progress": set(),
    "convert": {"models", "train_state", "checkpoint", "config", "optim", "safe_pickle"},
    "weights": {"checkpoint", "convert", "train_state"},
    "evaluate": {"config", "data", "evaluation", "runtime", "sharding", "train_state"},
}
TOP = {"train", "main"}  # may import everything


def imports(path: Path) -> set[str]:
    """Returns the layers of mcl_jax that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "mcl_jax":
            found |= {f"mcl_jax.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.split(".")[1] for name in found if name.startswith("mcl_jax.")}


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    here = layer(path)
    if here in TOP or path == PACKAGE / "__init__.py":
        return
    forbidden = imports(path) - ALLOWED[here] - {here, "errors", "files"}
    assert not forbidden, f"{here} must not import {forbidden}"


@pytest.mark.parametrize(
    "module",
    [
        "mcl_jax.evaluation.metrics",
        "mcl_jax.evaluation.protocols",
        "mcl_jax.evaluation.scoring",
        "mcl_jax.data.pipeline",
        "mcl_jax.walkers",
    ],
)
def test_metrics_protocols_and_data_import_neither_flax_nor_torch(module):
    code = f"import sys, {module}; print({{'flax', 'torch', 'tensorflow'}} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


def test_torch_and_tensorflow_are_never_imported():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not {n.split(".")[0] for n in names} & {"torch", "tensorflow"}, path
