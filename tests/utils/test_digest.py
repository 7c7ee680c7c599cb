"""Digests of files: they detect damage, and distinguish files of earlier versions from damaged ones."""

import hashlib
import json

import numpy as np
import pytest

from mcl_jax.utils.digest import DIGEST_KEY, DigestError, check_seal, hash_arrays, sealed

CONTENT = {"names": ("Ann", "Zoë"), "counts": {2: 0.1, 10: 1e-300}, "none": None}


def test_a_digest_survives_json():
    read = json.loads(json.dumps(sealed(CONTENT), indent=1))
    assert check_seal(read)
    assert {**read, DIGEST_KEY: ""} != read
    assert check_seal(dict(reversed(read.items())))  # the order of keys says nothing


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["Ann", "Zoe"]},
        {"more": 1},
        {"none": float("nan")},
        {DIGEST_KEY: None},
        {DIGEST_KEY: "0" * 64},
    ],
)
def test_any_change_is_found(change):
    with pytest.raises(DigestError, match="does not match"):
        check_seal(sealed(CONTENT) | change)


def test_a_file_of_an_earlier_version_has_no_digest_and_one_with_a_damaged_key_is_none():
    assert not check_seal(CONTENT)
    content = sealed(CONTENT)
    content["sha257"] = content.pop(DIGEST_KEY)
    with pytest.raises(DigestError, match="another name"):
        check_seal(content)


def test_numbers_that_json_has_not_are_not_sealed():
    with pytest.raises(ValueError, match="JSON"):
        sealed({"threshold": float("inf")})


@pytest.mark.parametrize(
    "other",
    [{"a": np.zeros(3)}, {"b": np.zeros(2)}, {"a": np.zeros(2, np.int64)}, {"a": np.zeros((2, 1))}],
)
def test_arrays_have_digests_by_name_type_shape_and_content(other):
    def digest(arrays):
        made = hashlib.sha256()
        hash_arrays(made, arrays)
        return made.hexdigest()

    own = {"a": np.zeros(2)}
    assert digest(own) == digest({"a": np.zeros(2)}) != digest(other)
    assert digest({"a": np.array(["x"])}) != digest({"a": np.array(["y"])})
    assert digest({"a": np.float32(1)}) != digest({"a": np.empty(0, np.float32)})
