"""records.json is read back as written; any other content is refused in one line."""

import contextlib
import dataclasses
import hashlib
import json

import pytest

from mcl_jax.data.stores import manifest
from mcl_jax.data.stores.manifest import (
    RECORDS_MANIFEST,
    RecordsManifest,
    StoredSequence,
    check_files,
    read_manifest,
    write_manifest,
)
from mcl_jax.errors import DataError
from mcl_jax.utils.digest import sealed

CONTENT = RecordsManifest(
    dataset="tree",
    source="0123",
    skipped_sequences=1,
    skipped_frames=2,
    files={"a.array_record": 3},
    sequences=(StoredSequence("001", "nm-01", "090", 30),),
    samples={"a.array_record": hashlib.sha256(b"123123").hexdigest()},
    checksums=(5,),
)


def unsealed(path):
    content = json.loads(path.read_text())
    del content["sha256"]
    return content


def test_round_trip(tmp_path):
    write_manifest(tmp_path, CONTENT)
    assert read_manifest(tmp_path) == CONTENT
    assert json.loads((tmp_path / RECORDS_MANIFEST).read_text())["sequences"] == [["001", "nm-01", "090", 30]]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dataset", 5, "dataset must be text"),
        ("source", None, "source must be text"),
        ("source", "\ud800", "source must be text"),
        ("skipped_sequences", -1, "skipped_sequences must be a count"),
        ("skipped_frames", True, "skipped_frames must be a count"),
        ("files", ["a"], "files must be"),
        ("files", {"a": "3"}, "files must be"),
        ("files", {"../a": 3}, "files must be plain file names"),
        ("files", {"/etc/passwd": 3}, "files must be plain file names"),
        ("files", {"..": 3}, "files must be plain file names"),
        ("files", {"a\0": 3}, "files must be plain file names"),
        ("sequences", 5, "sequences must be a list"),
        ("sequences", [["a"]], "sequences must be a list"),
        ("sequences", [["a", "b", "c", 1.5]], "sequences must be a list"),
        ("sequences", [["a", "b", "c", 0]], "sequences must be a list"),
        ("sequences", [["a", "b", 3, 1]], "sequences must be a list"),
        ("samples", {"a": 1}, "samples must be digests"),
        ("checksums", [1.5], "checksums must be a list of numbers"),
        ("checksums", [1, 2], "there must be as many checksums as sequences"),
        ("format", [2], r"records of format \[2\]"),
    ],
)
def test_wrong_content_is_one_line(tmp_path, key, value, message):
    write_manifest(tmp_path, CONTENT)
    path = tmp_path / RECORDS_MANIFEST
    path.write_text(json.dumps(sealed(unsealed(path) | {key: value})))
    with pytest.raises(
        DataError, match=rf"records\.json: .*{message}.*; restore the folder from a copy"
    ) as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / RECORDS_MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match=r"records\.json: .*; restore the folder from a copy"):
        read_manifest(tmp_path)


def test_a_missing_key_is_named(tmp_path):
    write_manifest(tmp_path, CONTENT)
    path = tmp_path / RECORDS_MANIFEST
    content = unsealed(path)
    del content["files"]
    path.write_text(json.dumps(sealed(content)))
    with pytest.raises(DataError, match="files must be"):
        read_manifest(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    write_manifest(tmp_path, CONTENT)
    monkeypatch.setattr(manifest, "_MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"records\.json: damaged: over 100 bytes"):
        read_manifest(tmp_path)


def test_another_version_is_read_for_its_names_only_when_asked(tmp_path):
    write_manifest(tmp_path, CONTENT)
    path = tmp_path / RECORDS_MANIFEST
    path.write_text(json.dumps(unsealed(path) | {"format": 1}))
    with pytest.raises(DataError, match="records of format 1, this version reads 2"):
        read_manifest(tmp_path)
    assert read_manifest(tmp_path, any_format=True) == CONTENT


def test_files_are_compared_by_size(tmp_path):
    with pytest.raises(DataError, match=r"a\.array_record: missing"):
        check_files(tmp_path, CONTENT)
    (tmp_path / "a.array_record").write_bytes(b"12")
    with pytest.raises(DataError, match=r"incomplete or changed \(2 bytes instead of 3\)"):
        check_files(tmp_path, CONTENT)
    (tmp_path / "a.array_record").write_bytes(b"124")
    with pytest.raises(DataError, match=r"a\.array_record: damaged, or from another preparation; restore"):
        check_files(tmp_path, CONTENT)
    (tmp_path / "a.array_record").write_bytes(b"123")
    check_files(tmp_path, CONTENT)


def test_no_flipped_bit_changes_the_result_unnoticed(tmp_path):
    write_manifest(tmp_path, CONTENT)
    path = tmp_path / RECORDS_MANIFEST
    content, refused = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        refused += 1
        with contextlib.suppress(DataError):
            assert read_manifest(tmp_path) == CONTENT
            refused -= 1
    assert refused > 7 * len(content)


def test_a_manifest_of_an_earlier_version_is_read(tmp_path):
    write_manifest(tmp_path, CONTENT)
    path = tmp_path / RECORDS_MANIFEST
    content = unsealed(path)
    del content["samples"], content["checksums"]
    path.write_text(json.dumps(content))
    assert read_manifest(tmp_path) == dataclasses.replace(CONTENT, samples={}, checksums=())
