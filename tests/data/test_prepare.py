"""Preparing raw frames as a pkl tree: pixels, layouts, restarts and errors for bad input."""

import csv
import errno
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mcl_jax.data.datasets import download_of
from mcl_jax.data.prepare.cleaning import Cleaning
from mcl_jax.data.prepare.layouts import list_sequences
from mcl_jax.data.prepare.oddities import oddities
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.data.prepare.silhouette import SkippedFrameError, normalize, read_png
from mcl_jax.data.prepare.single_walk import read_walk
from mcl_jax.data.stores.listing import list_tree
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import DataError

TREE = download_of("tree")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


def person(left=60, height=100):
    image = np.zeros((120, 160), np.uint8)
    image[10 : 10 + height, left : left + 30] = 255
    return image


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def raw(tmp_path):
    """Two subjects with three frames each; frame 002 of the first shows nobody."""
    for subject in ("001", "002"):
        for frame in range(3):
            image = person(left=50 + 5 * frame)
            if (subject, frame) == ("001", 2):
                image[:] = 0
            write_png(tmp_path / "raw" / subject / "nm-01" / "090" / f"{frame:03d}.png", image)
    return tmp_path / "raw"


def arrays(root):
    return {ref.key: PklSource().read(ref) for ref in scan_tree(root)}


def files(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def test_real_frames_give_the_reference_arrays(real_silhouettes, tmp_path):
    summary = prepare_dataset(TREE, real_silhouettes / "png", tmp_path / "out", workers=2)
    expected = arrays(real_silhouettes / "pkl")
    found = arrays(tmp_path / "out")
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
    assert (summary.sequences, summary.frames) == (8, 460)


def test_normalize_fills_the_height_and_centres():
    frame = normalize(person())
    # 30 columns of 100 rows are 19.2 of 64; the centre is the first column past half of the mass.
    assert frame.shape == (64, 64)
    assert (frame[:, 32] == 255).all()
    assert abs(int((frame > 127).any(axis=0).sum()) - 19) <= 1


def test_normalize_pads_at_the_border():
    at_border = np.zeros((64, 64), np.uint8)
    at_border[:, 1:21] = 255
    frame = normalize(at_border)
    # Columns 1…20 hold the mass, past half at column 11, which comes to column 32.
    np.testing.assert_array_equal(np.flatnonzero(frame[0]), np.arange(22, 42))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((64, 64), np.uint8), "no person"),
        (np.pad(np.full((39, 1), 255, np.uint8), ((0, 0), (9, 9))), "no person"),  # sum 9945
        (np.full((64, 1), 255, np.uint8), "no centre"),
        (np.full((640, 5), 255, np.uint8), "less than one column"),
    ],
)
def test_normalize_skips(image, reason):
    with pytest.raises(SkippedFrameError, match=reason):
        normalize(image)


def test_the_pixel_sum_limit_is_exclusive():
    image = np.zeros((64, 64), np.uint8)
    image[:50, 30:34] = 50  # 10,000
    with pytest.raises(SkippedFrameError, match="no person"):
        normalize(image)
    image[0, 30] += 1
    assert normalize(image).any()


def test_tree_skips_and_reports(raw, tmp_path):
    (raw / "003" / "nm-01" / "090").mkdir(parents=True)
    summary = prepare_dataset(download_of("casiab"), raw, tmp_path / "out")
    assert {k: len(a) for k, a in arrays(tmp_path / "out").items()} == {
        "001/nm-01/090": 2,
        "002/nm-01/090": 3,
    }
    with (tmp_path / "out" / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["subject"], r["frame"]) for r in rows] == [("001", "002.png"), ("003", "")]
    assert "no person" in rows[0]["reason"]
    assert "no PNG" in rows[1]["reason"]
    assert (summary.skipped_frames, summary.skipped_sequences) == (1, 1)


def test_result_does_not_depend_on_workers(raw, tmp_path):
    for workers in (0, 2):
        prepare_dataset(TREE, raw, tmp_path / str(workers), workers=workers)
    assert files(tmp_path / "0") == files(tmp_path / "2")


def test_second_run_redoes_nothing_and_repairs(raw, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(TREE, raw, out)
    before = files(out)
    kept, cut = sorted(out.rglob("*.pkl"))
    cut.write_bytes(cut.read_bytes()[:100])
    os.utime(kept, (1, 1))
    prepare_dataset(TREE, raw, out)
    assert files(out) == before
    assert kept.stat().st_mtime == 1


def test_interrupted_run_goes_on(raw, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(TREE, raw, out)
    before = files(out)
    manifest = out / "prepared.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    # As a kill leaves it: incomplete, the last line cut off, its file half written.
    manifest.write_text(lines[0].replace("true", "false") + lines[1] + lines[2][:20])
    last = sorted(out.rglob("*.pkl"))[-1]
    last.rename(last.with_name(f".{last.name}.0123abcd.tmp"))
    prepare_dataset(TREE, raw, out)
    assert files(out) == before


def test_new_frames_are_used_by_the_next_run(raw, tmp_path):
    prepare_dataset(TREE, raw, tmp_path / "out")
    write_png(raw / "002" / "nm-01" / "090" / "003.png", person())
    prepare_dataset(TREE, raw, tmp_path / "out")
    assert len(arrays(tmp_path / "out")["002/nm-01/090"]) == 4


def test_grew_is_rearranged_by_name(tmp_path):
    raw, ready = tmp_path / "raw", cv2.resize(person(), (64, 64))
    # Written in an order that is not the one by name.
    for video in ("zz", "aa"):
        write_png(raw / "test" / "gallery" / "00007" / video / "1.png", ready)
    write_png(raw / "test" / "gallery" / "00007" / "aa" / "aa_gei.png", ready)
    write_png(raw / "test" / "probe" / "v9" / "1.png", ready)
    write_png(raw / "train" / "00007" / "v1" / "1.png", np.zeros((64, 64), np.uint8))  # kept as it is
    write_png(raw / "train" / "00007" / "v1" / "2.png", ready)
    prepare_dataset(download_of("grew"), raw, tmp_path / "out")
    found = arrays(tmp_path / "out")
    assert list(found) == ["00007/01/aa", "00007/02/zz", "00007train/00/v1", "probe/03/v9"]
    assert [len(array) for array in found.values()] == [1, 1, 2, 1]
    np.testing.assert_array_equal(found["probe/03/v9"][0], ready)


def png_bytes(image):
    return cv2.imencode(".png", image)[1].tobytes()


COLOUR = np.dstack([person(), person(), person() // 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"GIF89a", "not a PNG"),
        (png_bytes(person())[:-40], "cut off"),
        (png_bytes(COLOUR), "colour"),
        (png_bytes(person().astype(np.uint16) * 257), "uint16"),
        (png_bytes(np.dstack([person()] * 4)), "transparent"),
    ],
)
def test_bad_png(raw, tmp_path, content, message):
    bad = raw / "002" / "nm-01" / "090" / "001.png"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        prepare_dataset(TREE, raw, tmp_path / "out")
    assert str(bad) in str(error.value)
    assert "\n" not in str(error.value)
    # All the rest was done, and --skip-damaged does the sequence without the frame.
    assert list(arrays(tmp_path / "out")) == ["001/nm-01/090"]
    prepare_dataset(TREE, raw, tmp_path / "out", skip_damaged=True)
    assert len(arrays(tmp_path / "out")["002/nm-01/090"]) == 2


def test_a_repaired_file_is_used_by_the_next_run(raw, tmp_path):
    bad = raw / "002" / "nm-01" / "090" / "001.png"
    sound = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        prepare_dataset(TREE, raw, tmp_path / "out")
    bad.write_bytes(sound)
    prepare_dataset(TREE, raw, tmp_path / "out")
    assert len(arrays(tmp_path / "out")["002/nm-01/090"]) == 3


def test_a_damaged_sequence_can_be_deleted(raw, tmp_path):
    out = tmp_path / "out"
    (raw / "002" / "nm-01" / "090" / "001.png").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        prepare_dataset(TREE, raw, out)
    with pytest.raises(DataError, match="preparation of .* is not complete"):
        list_tree(out)
    shutil.rmtree(raw / "002")
    assert prepare_dataset(TREE, raw, out).sequences == 1
    assert [ref.subject for ref in list_tree(out)] == ["001"]


def test_a_missing_source_is_refused(raw, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(TREE, raw, out)
    shutil.rmtree(raw / "002")
    with pytest.raises(DataError, match=r"002/nm-01/090/090\.pkl: its source is missing; .* delete .*/090'"):
        prepare_dataset(TREE, raw, out)
    shutil.rmtree(out / "002")
    assert prepare_dataset(TREE, raw, out).sequences == 1


def test_a_wrong_source_folder_is_an_error(raw, tmp_path):
    above = tmp_path / "above"
    (above / "archive").mkdir(parents=True)
    raw.rename(above / "archive" / "raw")
    for file_format in ("pkl", "records"):
        out = tmp_path / file_format
        with pytest.raises(DataError, match="no usable sequence .* lists the reasons") as error:
            prepare_dataset(TREE, above, out, file_format=file_format)
        table = Path(str(error.value).split("; ")[1].removesuffix(" lists the reasons"))
        assert "no PNG" in table.read_text()
    (above / "archive").rename(above / "train")
    with pytest.raises(DataError, match="train' is not a subject"):
        prepare_dataset(download_of("casiab"), above, tmp_path / "out")


def test_a_packed_archive_is_named(raw, tmp_path, caplog):
    (raw / "001.tar.gz").touch()
    (raw / "004.tar.gz").touch()
    prepare_dataset(TREE, raw, tmp_path / "out")
    assert "004.tar.gz: archive is not unpacked" in caplog.text
    assert "001.tar.gz" not in caplog.text


def test_more_than_two_gallery_videos_of_grew_are_refused(tmp_path):
    for video in "abc":
        write_png(tmp_path / "raw" / "test" / "gallery" / "7" / video / "1.png", person())
    with pytest.raises(DataError, match=r"gallery/7: 3 videos"):
        prepare_dataset(download_of("grew"), tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("file_format", ["pkl", "records"])
def test_folders_that_cannot_be_read(raw, tmp_path, monkeypatch, file_format):
    def refuse(folder):
        if "002" in str(folder):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"002.*: cannot be read: Permission denied; check its permissions"):
        prepare_dataset(TREE, raw, tmp_path / "out", file_format=file_format)


def test_colour_png_of_equal_channels_is_grey(tmp_path):
    path = write_png(tmp_path / "a.png", np.dstack([person()] * 3))
    np.testing.assert_array_equal(read_png(path), person())


def test_unusable_folders(raw, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="no folder"):
        prepare_dataset(TREE, tmp_path / "missing", out)
    with pytest.raises(DataError, match="train/<id>/<video>"):
        prepare_dataset(download_of("grew"), raw, out)
    with pytest.raises(DataError, match="inside --src"):
        prepare_dataset(TREE, raw, raw / "out")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "001.tar.gz").touch()
    with pytest.raises(DataError, match=r"unpack .*001\.tar\.gz"):
        prepare_dataset(download_of("casiab"), tmp_path / "packed", out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(DataError, match="not empty"):
        prepare_dataset(TREE, raw, tmp_path / "full")
    prepare_dataset(TREE, raw, out)
    with pytest.raises(DataError, match="another source"):
        prepare_dataset(download_of("gait3d"), raw, out)
    with pytest.raises(DataError, match="pkl tree already"):
        prepare_dataset(TREE, out, tmp_path / "again")
    (raw / "002").rename(tmp_path / "gone")
    with pytest.raises(DataError, match=r"002\.pkl|090\.pkl"):
        prepare_dataset(TREE, raw, out)


def test_script(raw, tmp_path):
    done = run("tree", "--src", raw, "--out", tmp_path / "out", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "2 sequences, 5 frames" in done.stdout
    # A bar in a terminal, elsewhere a line every ten seconds.
    assert all(line.startswith("out: ") for line in done.stderr.splitlines())
    failed = run("tree", "--src", tmp_path / "missing", "--out", tmp_path / "out")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: --src: no folder")
    assert failed.stderr.count("\n") == 1


def test_pickles_are_what_the_reference_reads(raw, tmp_path):
    prepare_dataset(TREE, raw, tmp_path / "out")
    with next((tmp_path / "out").rglob("*.pkl")).open("rb") as file:
        array = pickle.load(file)
    assert (array.dtype, array.shape) == (np.uint8, (2, 64, 64))


def walk_of(root, image, subject="001", frames=3, name="{:03d}.png"):
    for frame in range(frames):
        write_png(root / subject / "nm-01" / "090" / name.format(frame), image)
    return root


def with_specks():
    image = person(height=60)
    image[117:119, 20:30] = 255
    return image


def with_another_person():
    image = person()
    image[10:110, 110:140] = 255
    return image


@pytest.mark.parametrize(
    ("image", "remark", "cleaning"),
    [
        (with_specks(), "have specks far from the person", Cleaning(largest_piece=True)),
        (with_another_person(), "have a second piece half as large", Cleaning(largest_piece=True)),
        (person() // 2 + 1, "have many grey levels", Cleaning(threshold=100)),
        (np.pad(person(), 1, constant_values=255), "have a mostly white border", None),
    ],
    ids=["specks", "another person", "grey", "border"],
)
def test_faulty_frames_are_reported_in_one_line_and_cleaned_if_asked(
    tmp_path, caplog, image, remark, cleaning
):
    walk_of(tmp_path / "raw", person(), frames=3)
    walk_of(tmp_path / "raw", image, subject="002", frames=3)
    prepare_dataset(TREE, tmp_path / "raw", tmp_path / "out")
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"3 of 6 frames checked, such as 002/nm-01/090/000.png, {remark}" in line
    caplog.clear()
    if cleaning is not None:
        prepare_dataset(TREE, tmp_path / "raw", tmp_path / "clean", cleaning=cleaning)
        assert not caplog.records
        found = arrays(tmp_path / "clean")
        height = 60 if remark.startswith("have specks") else 100
        np.testing.assert_array_equal(found["002/nm-01/090"][0], normalize(person(height=height)))
        np.testing.assert_array_equal(found["001/nm-01/090"], arrays(tmp_path / "out")["001/nm-01/090"])
        with pytest.raises(DataError, match="prepared from another source"):
            prepare_dataset(TREE, tmp_path / "raw", tmp_path / "out", cleaning=cleaning)


def test_unpadded_frame_numbers_are_reported_and_can_be_sorted(tmp_path, caplog):
    for number in (9, 10, 11):
        path = tmp_path / "raw" / "001" / "nm-01" / "090" / f"f{number}.png"
        write_png(path, person(height=70 + number))
    prepare_dataset(TREE, tmp_path / "raw", tmp_path / "name")
    assert "1 of 1 walks checked, such as 001/nm-01/090, have frames whose numbers are not" in caplog.text
    caplog.clear()
    prepare_dataset(TREE, tmp_path / "raw", tmp_path / "number", cleaning=Cleaning(order="number"))
    assert not caplog.records
    by_name, by_number = (arrays(tmp_path / order)["001/nm-01/090"] for order in ("name", "number"))
    np.testing.assert_array_equal(by_number, by_name[[2, 0, 1]])
    assert len({frame.tobytes() for frame in by_name}) == 3


def test_sound_frames_get_no_warning(real_silhouettes, raw):
    assert oddities(TREE.layout, list_sequences(TREE.layout, raw)[0]) == []
    real = list_sequences(TREE.layout, real_silhouettes / "png")[0]
    assert oddities(TREE.layout, real) == []


def test_inverted_walks_are_damage_and_jpeg_is_named(tmp_path):
    walk_of(tmp_path / "raw", person())
    walk_of(tmp_path / "raw", 255 - person(), subject="002")
    with pytest.raises(DataError, match=r"002/nm-01/090: white at the left and right border: inverted"):
        prepare_dataset(TREE, tmp_path / "raw", tmp_path / "out")
    folder = tmp_path / "jpeg" / "001" / "nm-01" / "090"
    folder.mkdir(parents=True)
    assert cv2.imwrite(str(folder / "0.jpg"), person())
    with pytest.raises(DataError, match=r"but JPEG files, such as 0\.jpg: convert them to PNG"):
        read_walk(folder)
