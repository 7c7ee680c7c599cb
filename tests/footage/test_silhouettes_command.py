import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from mcl_jax.cli.commands import silhouettes
from mcl_jax.data.stores.array_pickle import read_array
from mcl_jax.data.stores.tree import scan_tree
from mcl_jax.errors import DataError


def run(*flags):
    parser = argparse.ArgumentParser()
    silhouettes.add_arguments(parser)
    silhouettes.run(parser.parse_args([str(flag) for flag in flags]))


def test_it_writes_a_tree_and_pictures(alone, masks, tmp_path, capsys):
    out = tmp_path / "walks"
    run("--video", alone, masks, "--out", out, "--view", "090")
    first, second = scan_tree(out)
    assert first.key == "alone-person-001/00/090"
    frames = read_array(Path(first.location).read_bytes())
    assert frames.shape[1:] == (64, 64)
    rows = list(csv.DictReader((out / "walks.csv").read_text().splitlines()))
    assert [row["subject"] for row in rows] == [first.subject, second.subject]
    assert [row["left_out"] for row in rows] == ["", ""]
    assert int(rows[0]["silhouettes"]) == len(frames)
    pictures = tmp_path / "walks_pictures"
    sheet = cv2.imread(str(pictures / "alone.png"))
    assert sheet.shape == (18 + 64, 12 * 64, 3)
    overlay = cv2.VideoCapture(str(pictures / "alone.mp4"))
    assert overlay.get(cv2.CAP_PROP_FRAME_COUNT) == cv2.VideoCapture(str(alone)).get(cv2.CAP_PROP_FRAME_COUNT)
    overlay.set(cv2.CAP_PROP_POS_FRAMES, 60)
    drawn = overlay.read()[1].astype(int)
    assert np.ptp(drawn, axis=2).max() > 150  # an outline in a bright colour
    assert capsys.readouterr().out.count("1 walk kept, 0 left out") == 2
    with pytest.raises(DataError, match="walks' exists already; delete it or choose another"):
        run("--video", alone, "--out", out)


def test_no_usable_walk_is_an_error_with_a_table(masks, tmp_path):
    out = tmp_path / "walks"
    with pytest.raises(DataError, match="no walk in its .* is usable: person-001: too short to judge"):
        run("--video", masks, "--out", out, "--min-frames", 1000, "--no-overlay")
    (row,) = csv.DictReader((out / "walks.csv").read_text().splitlines())
    assert row["left_out"].startswith("too short to judge")
    assert not list(tmp_path.rglob("*.mp4"))


def test_unsuitable_flags_are_refused(alone, tmp_path):
    with pytest.raises(DataError, match="two videos are called 'alone'"):
        run("--video", alone, alone, "--out", tmp_path / "a")
    with pytest.raises(DataError, match="camera 0 has no end; set --max-frames"):
        run("--video", "0", "--out", tmp_path / "a")
    with pytest.raises(DataError, match=r"--view: '\.\.' cannot be the name of a folder"):
        run("--video", alone, "--out", tmp_path / "a", "--view", "..")
    assert not (tmp_path / "a").exists()
