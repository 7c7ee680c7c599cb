import json

import numpy as np
import pytest

from mcl_jax.errors import CheckpointError
from mcl_jax.pretrained import load_weights, save_weights
from mcl_jax.pretrained.files import METADATA, WEIGHTS

PARAMS = {"stages": {0: {"kernel": np.array([[0.5, -2.0]], np.float32)}}, "bias": np.ones(3, np.float32)}
STATS = {"norm": {"var": np.array([1e6, 1e-6], np.float32)}}


@pytest.fixture
def folder(tmp_path):
    save_weights(tmp_path, {"name": "gaitenergy"}, PARAMS, STATS, step=7, config={"seed": 0})
    return tmp_path


def test_what_is_saved_is_loaded(folder):
    metadata, params, stats = load_weights(folder)
    assert metadata["model"] == {"name": "gaitenergy"}
    assert metadata["step"] == 7
    np.testing.assert_array_equal(params["stages"][0]["kernel"], PARAMS["stages"][0]["kernel"])
    np.testing.assert_array_equal(params["bias"], PARAMS["bias"])
    np.testing.assert_array_equal(stats["norm"]["var"], STATS["norm"]["var"])
    assert params["bias"].dtype == np.float32


def test_one_other_byte_is_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="not the file that"):
        load_weights(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_damaged_metadata_are_refused(folder, content):
    (folder / METADATA).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(folder)


def test_missing_files_are_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_weights(folder)


def test_metadata_are_plain_json(folder):
    assert set(json.loads((folder / METADATA).read_bytes())) == {"model", "step", "sha256", "config"}
