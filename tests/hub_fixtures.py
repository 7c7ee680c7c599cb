"""Fixtures: a hub on localhost with its own caches, and a checkpoint for it."""

import time

import pytest
from hub_server import running_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # pauses before the next try
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


@pytest.fixture(scope="session")
def checkpoint(toy_run, tmp_path_factory):
    """A tiny GaitBase as a PyTorch file."""
    from mcl_jax.convert.runs import export_weights
    from mcl_jax.weights.load import load_weights

    path = tmp_path_factory.mktemp("published") / "model.pt"
    export_weights(load_weights(toy_run), path)
    return path.read_bytes()
