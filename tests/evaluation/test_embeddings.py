import dataclasses
import re
import zipfile

import numpy as np
import pytest

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.utils.files import write_atomically


def make(n: int = 3, **changes) -> EmbeddingSet:
    fields = {
        "embeddings": np.arange(n * 2 * 4, dtype=np.float32).reshape(n, 2, 4),
        "subjects": np.array([f"{i:03d}" for i in range(n)]),
        "conditions": np.array(["nm-01"] * n),
        "views": np.array(["090"] * n),
    }
    return EmbeddingSet(**(fields | changes))


def test_saved_set_is_read_back_as_it_was(tmp_path):
    embedding_set = make()
    embedding_set.save(tmp_path / "new folder" / "e.npz")
    again = EmbeddingSet.load(tmp_path / "new folder" / "e.npz")
    for field in dataclasses.fields(EmbeddingSet):
        before, after = getattr(embedding_set, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(after, before)
        assert after.dtype == before.dtype
    assert again.keys() == ["000-nm-01-090", "001-nm-01-090", "002-nm-01-090"]


def test_saved_file_opens_without_pickle(tmp_path):
    make().save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["conditions", "embeddings", "sha256", "subjects", "views"]


def test_labels_of_another_set_are_refused_and_a_file_without_a_digest_is_read(tmp_path, caplog):
    arrays = dataclasses.asdict(make())
    make().save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as file:
        digest = {"sha256": file["sha256"]}
    np.savez(tmp_path / "e.npz", **arrays | {"subjects": arrays["subjects"][::-1]}, **digest)
    with pytest.raises(DataError, match=r"e\.npz: damaged or changed: its arrays do not fit its digest"):
        EmbeddingSet.load(tmp_path / "e.npz")
    np.savez(tmp_path / "e.npz", **arrays)
    assert EmbeddingSet.load(tmp_path / "e.npz").keys() == make().keys()


def test_no_flipped_bit_gives_other_embeddings_or_labels(tmp_path):
    path = tmp_path / "e.npz"
    make().save(path)
    content, refused = path.read_bytes(), 0
    for bit in range(0, 8 * len(content), 13):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = EmbeddingSet.load(path)
        except DataError:
            refused += 1
        else:
            assert found.keys() == make().keys()
            np.testing.assert_array_equal(found.embeddings, make().embeddings)
    assert refused > 100


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_atomically(tmp_path / "f", b"old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "f", "not bytes")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": np.zeros((3, 8), np.float32)}, r"float32 \[3, 8\]"),
        ({"embeddings": np.zeros((3, 2, 4))}, r"found float64"),
        ({"embeddings": np.zeros((3, 0, 4), np.float32)}, r"\[3, 0, 4\]"),
        ({"subjects": np.array(["000", "001"])}, r"subjects: .*each of the 3 embeddings.*\[2\]"),
        ({"subjects": np.array(["a", "b", "\udce9"])}, r"subjects: '.udce9' is not UTF-8"),
        ({"views": np.array([0, 90, 180])}, r"views: expected one string .*found int64"),
        ({"subjects": np.array(["000", "001", "000"])}, r"000-nm-01-090 occurs more than once"),
    ],
)
def test_unusable_arrays_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        make(**changes)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    x = np.zeros((3, 2, 4), np.float32)
    x[1, 0, 3] = value
    with pytest.raises(
        DataError, match="NaN or infinite values in 1 of 3 sequences, the first is 001-nm-01-090"
    ):
        make(embeddings=x)


def test_file_with_nan_is_refused_with_its_name(tmp_path):
    arrays = dataclasses.asdict(make())
    arrays["embeddings"] = np.full((3, 2, 4), np.nan, np.float32)
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(DataError, match=r"e\.npz: embeddings: NaN"):
        EmbeddingSet.load(tmp_path / "e.npz")


def test_file_without_a_key_is_refused(tmp_path):
    np.savez(tmp_path / "e.npz", embeddings=np.zeros((1, 1, 1), np.float32), labels=np.array(["a"]))
    with pytest.raises(DataError, match=r"no subjects, conditions, views \(found embeddings, labels\)"):
        EmbeddingSet.load(tmp_path / "e.npz")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz: no such file"):
        EmbeddingSet.load(tmp_path / "none.npz")


def test_pickled_labels_are_refused(tmp_path):
    arrays = dataclasses.asdict(make()) | {"subjects": np.array(["000", "001", None], dtype=object)}
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(DataError, match="pickled objects, which are never loaded"):
        EmbeddingSet.load(tmp_path / "e.npz")


def test_lone_array_and_text_are_refused(tmp_path):
    np.save(tmp_path / "e.npy", np.zeros((3, 2, 4), np.float32))
    (tmp_path / "e.txt").write_text("embeddings")
    for name in ("e.npy", "e.txt"):
        with pytest.raises(DataError, match=f"{name}: not a readable .npz file"):
            EmbeddingSet.load(tmp_path / name)


def test_damaged_file_is_refused(tmp_path):
    make(200).save(tmp_path / "e.npz")
    content = bytearray((tmp_path / "e.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    content[1000] ^= 1  # in the embeddings: the CRC must notice
    (tmp_path / "flipped.npz").write_bytes(content)
    content[1000] ^= 1
    content[6] |= 1  # says that the entry is encrypted
    for at in (m.start() for m in re.finditer(b"PK\1\2", bytes(content))):
        content[at + 8] |= 1
    (tmp_path / "locked.npz").write_bytes(content)
    for name in ("cut.npz", "flipped.npz", "locked.npz"):
        with pytest.raises(DataError, match=f"{name}: not a readable .npz file"):
            EmbeddingSet.load(tmp_path / name)


def test_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as file:
        for name in ("embeddings", "subjects", "conditions", "views"):
            file.writestr(f"{name}.npy", b"no array")
    with pytest.raises(DataError, match=r"e\.npz: embeddings is not an array"):
        EmbeddingSet.load(tmp_path / "e.npz")


def test_lists_are_accepted_and_the_repr_is_short():
    arrays = dataclasses.asdict(make())
    made = EmbeddingSet(**{key: value.tolist() for key, value in arrays.items()})
    assert made.embeddings.dtype == np.float32
    assert all(np.array_equal(getattr(made, key), value) for key, value in arrays.items())
    counts = ", ".join(
        f"{len(set(arrays[key].tolist()))} {key}" for key in ("subjects", "conditions", "views")
    )
    assert repr(made) == f"EmbeddingSet({len(made)} sequences, {counts}; 2 parts × 4 channels)"
    with pytest.raises(DataError, match="embeddings: expected one block"):
        EmbeddingSet([np.zeros((2, 4)), np.zeros((3, 4))], ["a", "b"], ["c", "c"], ["d", "d"])
    with pytest.raises(DataError, match="subjects: expected one string for each"):
        EmbeddingSet(np.zeros((2, 2, 4), np.float32), ["a", 7], ["c", "c"], ["d", "d"])
