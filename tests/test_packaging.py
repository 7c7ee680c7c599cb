"""Installed packages: core, extras, and the requirements files with all of them."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from mcl_jax.utils.extras import EXTRAS, MissingExtraError, require_extra

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Module → package, where they differ.
PACKAGES = {
    "array_record": "array-record",
    "mlflow": "mlflow-skinny",
    "prometheus_client": "prometheus-client",
    "python_multipart": "python-multipart",
    "tensorflow_datasets": "tensorflow-datasets",
}


def names(lines: list[str]) -> set[str]:
    found = {re.split(r"[<>=;\[ ]", line.strip())[0] for line in lines if line.split("#")[0].strip()}
    return found - {"mcl_jax"}


def test_the_lists_of_requirements_are_the_core_with_all_that_training_takes():
    wanted = names(PROJECT["dependencies"])
    for extra in ("train", "report", "records"):
        wanted |= names(PROJECT["optional-dependencies"][extra])
    for file in ("requirements.txt", "requirements-cpu.txt"):
        assert names((ROOT / file).read_text().splitlines()) == wanted, file


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_the_modules_that_are_asked_for(extra):
    installed = names(PROJECT["optional-dependencies"][extra])
    if extra == "train":
        installed |= names(PROJECT["optional-dependencies"]["report"])
    assert {PACKAGES.get(module, module) for module in EXTRAS[extra]} == installed


def test_a_missing_module_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        MissingExtraError, match=r"^training needs tensorboardX: pip install 'mcl_jax\[train\]'$"
    ):
        require_extra("train", "training")
