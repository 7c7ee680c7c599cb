import dataclasses
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.data.stores.job_log import JOB_LOG
from mcl_jax.data.stores.listing import list_tree
from mcl_jax.errors import DataError
from mcl_jax.walkers import CONDITIONS, VIEWS, WalkerStyle, contact_sheet, render_sequence, write_walkers
from mcl_jax.walkers.body import Body
from mcl_jax.walkers.dataset import sequence_length
from mcl_jax.walkers.gait import ANKLE_DEG, HIP_DEG, KNEE_DEG, SIDES, ArmPose, Gait, curve, walk

CLEAN = WalkerStyle(noise=0, camera=0)
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_walkers.py"


def inside(frames: np.ndarray) -> np.ndarray:
    return frames > 127


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.pkl")}


@pytest.fixture
def population() -> dict:
    return {
        "subjects": 3,
        "test_subjects": 1,
        "views": ["090", "000"],
        "conditions": ["nm-01", "bg-02"],
        "frames": 8,
    }


def test_views_and_conditions_are_those_of_casia_b():
    assert VIEWS == ("000", "018", "036", "054", "072", "090", "108", "126", "144", "162", "180")
    assert [c[:2] for c in CONDITIONS] == ["nm"] * 6 + ["bg"] * 2 + ["cl"] * 2


# The skeleton


@pytest.mark.parametrize("samples", [HIP_DEG, KNEE_DEG, ANKLE_DEG])
def test_joint_curves_pass_near_their_samples(samples):
    phase = np.arange(20) / 20
    np.testing.assert_allclose(curve(samples, phase), samples, atol=2)
    np.testing.assert_allclose(curve(samples, phase + 3), curve(samples, phase), atol=1e-9)


def test_limbs_keep_their_length_and_bend_the_human_way():
    body, gait = Body(), Gait()
    joints = walk(body, gait, np.linspace(0, 2, 80), dict.fromkeys(SIDES, 1.0)).joints
    for side in SIDES:
        hip, knee, ankle = (joints[f"{name}_{side}"] for name in ("hip", "knee", "ankle"))
        shoulder, elbow, wrist = (joints[f"{name}_{side}"] for name in ("shoulder", "elbow", "wrist"))
        np.testing.assert_allclose(np.linalg.norm(knee - hip, axis=1), body.thigh, rtol=0.01)
        np.testing.assert_allclose(np.linalg.norm(wrist - elbow, axis=1), body.forearm, rtol=0.05)

        def pitch(segment: np.ndarray) -> np.ndarray:
            return np.arctan2(segment[:, 0], -segment[:, 2])

        assert np.all(pitch(ankle - knee) <= pitch(knee - hip) + 1e-9)
        assert np.all(pitch(wrist - elbow) > pitch(elbow - shoulder))


def test_arms_swing_against_legs_and_a_load_stops_them():
    phase = np.linspace(0, 1, 40, endpoint=False)
    joints = walk(Body(), Gait(), phase, {"left": 1.0, "right": 0.0}).joints
    swing = {side: joints[f"elbow_{side}"][:, 0] - joints[f"shoulder_{side}"][:, 0] for side in SIDES}
    leg = joints["ankle_left"][:, 0] - joints["hip_left"][:, 0]
    assert np.corrcoef(swing["left"], leg)[0, 1] < -0.8
    assert np.ptp(swing["right"]) < 0.3 * np.ptp(swing["left"])


def test_one_foot_is_on_the_floor_and_the_pelvis_bobs_at_every_step():
    joints = walk(Body(), Gait(), np.arange(40) / 40, dict.fromkeys(SIDES, 1.0)).joints
    feet = np.stack([joints[f"{point}_{side}"][:, 2] for point in ("heel", "toe") for side in SIDES])
    np.testing.assert_allclose(feet.min(axis=0), 0, atol=1e-12)
    spectrum = np.abs(np.fft.rfft(joints["pelvis"][:, 2]))[1:]
    assert np.argmax(spectrum) + 1 == 2


def test_a_posed_arm_is_held_as_it_is_told_to_be_and_the_other_one_swings_on():
    phase = np.linspace(0, 1, 40, endpoint=False)
    swing = {"left": 0.0, "right": 1.0}
    free = walk(Body(), Gait(), phase, swing).joints
    posed = walk(Body(), Gait(), phase, swing, {"left": ArmPose(30.0, 130.0, 0.0)}).joints
    np.testing.assert_array_equal(posed["wrist_right"], free["wrist_right"])
    assert np.all(posed["hand_left"][:, 2] > posed["elbow_left"][:, 2])
    assert np.all(free["hand_left"][:, 2] < free["elbow_left"][:, 2])


# One sequence


@pytest.mark.parametrize(("condition", "view"), [("nm-01", "000"), ("bg-01", "090"), ("cl-02", "180")])
def test_silhouettes_are_filled_to_height_and_centred(condition, view):
    frames = render_sequence(0, 1, condition, view, 20)
    assert frames.shape == (20, 64, 64)
    assert frames.dtype == np.uint8
    assert frames.min() == 0
    assert frames.max() == 255
    assert 0.1 < inside(frames).mean() < 0.35
    grey = ((frames > 0) & (frames < 255)).sum() / (frames > 0).sum()
    assert 0.05 < grey < 0.2
    assert np.all(frames[:, [0, 1, 62, 63]].max(axis=2).max(axis=1) > 0)
    mass = frames.sum(axis=1, dtype=float)
    half = np.cumsum(mass, axis=1) > 0.5 * mass.sum(axis=1, keepdims=True)
    assert np.all(np.abs(half.argmax(axis=1) - 32) <= 1)


def test_same_arguments_same_bytes_and_each_argument_counts():
    reference = render_sequence(0, 0, "nm-01", "090", 6)
    np.testing.assert_array_equal(render_sequence(0, 0, "nm-01", "090", 6), reference)
    others = [
        render_sequence(1, 0, "nm-01", "090", 6),
        render_sequence(0, 1, "nm-01", "090", 6),
        render_sequence(0, 0, "nm-02", "090", 6),
        render_sequence(0, 0, "nm-01", "072", 6),
        render_sequence(0, 0, "nm-01", "090", 6, WalkerStyle(noise=0)),
    ]
    assert all(not np.array_equal(other, reference) for other in others)


def test_from_the_side_the_stride_is_wider_than_the_person_from_the_front():
    def feet(view: str) -> float:
        legs = inside(render_sequence(0, 2, "nm-01", view, 26, CLEAN))[:, 50:]
        return np.ptp(np.nonzero(legs.any(axis=(0, 1)))[0])

    assert feet("090") > 1.5 * feet("000")


def test_front_and_back_show_nearly_the_same_outline_and_sides_do_not():
    def outline(view: str) -> np.ndarray:
        return render_sequence(0, 0, "nm-01", view, 26, CLEAN).mean(axis=0)

    front, back, side = outline("000"), outline("180")[:, ::-1], outline("090")
    assert np.abs(front - back).mean() < 0.5 * np.abs(front - side).mean()


@pytest.mark.parametrize(("condition", "knob"), [("bg-01", "bag"), ("cl-01", "coat")])
def test_bags_and_coats_add_pixels_and_their_knob_takes_them_off(condition, knob):
    def pixels(style: WalkerStyle) -> np.ndarray:
        return np.array([inside(render_sequence(0, s, condition, "090", 26, style)).mean() for s in range(6)])

    added = pixels(CLEAN) / pixels(dataclasses.replace(CLEAN, **{knob: 0}))
    assert added.min() > 1.01
    assert added.mean() > 1.05


def test_people_differ_more_than_the_walks_of_one():
    def gei(subject: int, condition: str) -> np.ndarray:
        return render_sequence(0, subject, condition, "090", 26).mean(axis=0)

    first, second = ([gei(subject, condition) for subject in range(8)] for condition in ("nm-01", "nm-05"))
    distances = np.array([[np.abs(a - b).mean() for b in second] for a in first])
    own = distances.diagonal().mean()
    assert own < 0.75 * distances[~np.eye(8, dtype=bool)].mean()
    assert (distances.argmin(axis=1) == np.arange(8)).mean() >= 0.75


def test_without_any_spread_everybody_is_alike():
    style = WalkerStyle(0, 0, 0, 0, 0, 0)
    images = [render_sequence(0, subject, "nm-01", "000", 50, style).mean(axis=0) for subject in range(2)]
    assert np.abs(images[0] - images[1]).mean() < 1.5  # only the phase is left


def test_noise_lasts_over_frames_and_moves_the_edges():
    clean, noisy = (
        inside(render_sequence(0, 0, "nm-01", "000", 40, WalkerStyle(noise=n, camera=0))) for n in (0, 2)
    )
    wrong = clean != noisy
    assert 0.005 < wrong.mean() < 0.1
    persistent = (wrong[1:] & wrong[:-1]).sum() / wrong[1:].sum()
    assert persistent > 5 * wrong.mean()


@pytest.mark.parametrize("style", [WalkerStyle(3, 3, 3, 3, 3, 3), WalkerStyle(0, 0, 0, 0, 0, 0)])
@pytest.mark.parametrize("frames", [1, 500])
def test_extremes_still_render(style, frames):
    for condition in ("bg-01", "cl-01"):
        assert inside(render_sequence(0, 0, condition, "000", frames, style)).mean(axis=(1, 2)).min() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, "xx-01", "000", 1), "unknown condition 'xx-01'"),
        ((0, 0, "nm-01", "001", 1), "unknown view '001'"),
        ((-1, 0, "nm-01", "000", 1), "seed -1"),
        ((0, 0, "nm-01", "000", 0), "frames 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        render_sequence(*arguments)


@pytest.mark.parametrize("value", [-0.1, 3.1, float("nan")])
def test_impossible_style_is_refused(value):
    with pytest.raises(DataError, match=r"WalkerStyle\.coat"):
        WalkerStyle(coat=value)


def test_contact_sheet_has_a_row_per_condition_and_a_column_per_view():
    sheet = contact_sheet(subjects=[0], conditions=["nm-01", "cl-01"], views=["000", "090", "180"])
    assert sheet.shape == (2 * 64, 3 * 64)
    assert sheet.dtype == np.uint8


# The tree


def test_tree_and_partition(tmp_path, population):
    written = write_walkers(tmp_path / "walkers", **population)
    files = tree(tmp_path / "walkers")
    assert written == len(files) == 12
    assert set(files) == {
        f"{subject}/{condition}/{view}/{view}.pkl"
        for subject in ("001", "002", "003")
        for condition in population["conditions"]
        for view in population["views"]
    }
    partition = json.loads((tmp_path / "walkers_partition.json").read_text())
    assert partition == {"TRAIN_SET": ["001", "002"], "TEST_SET": ["003"]}

    frames = pickle.loads(files["002/bg-02/090/090.pkl"])
    length = sequence_length(0, 1, "bg-02", "090", 8)
    np.testing.assert_array_equal(frames, render_sequence(0, 1, "bg-02", "090", length))
    assert (
        sum(path.is_file() for path in (tmp_path / "walkers").rglob("*")) == 12 + 1
    )  # nothing temporary is left


def test_lengths_vary_by_a_tenth():
    lengths = {sequence_length(0, subject, "nm-01", "000", 60) for subject in range(200)}
    assert lengths == set(range(54, 67))
    assert sequence_length(0, 0, "nm-01", "000", 1) == 1


def test_bytes_depend_on_neither_workers_nor_company(tmp_path, population):
    write_walkers(tmp_path / "alone", **population)
    write_walkers(tmp_path / "parallel", **population, workers=2)
    assert tree(tmp_path / "alone") == tree(tmp_path / "parallel")
    write_walkers(tmp_path / "fewer", **population | {"subjects": 2, "views": ["090"]})
    everything = tree(tmp_path / "alone")
    assert all(everything[name] == content for name, content in tree(tmp_path / "fewer").items())


def test_a_second_run_only_adds_what_is_missing(tmp_path, population):
    root = tmp_path / "walkers"
    write_walkers(root, **population)
    before = tree(root)
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*.pkl")}
    assert write_walkers(root, **population) == 0
    missing = root / "002" / "nm-01" / "000" / "000.pkl"
    missing.unlink()
    assert write_walkers(root, **population) == 1
    assert tree(root) == before
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path != missing)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"frames": 9}, {"subjects": 4}, {"views": ["000"]}, {"style": WalkerStyle(noise=0.5)}],
)
def test_other_parameters_are_refused(tmp_path, population, change):
    small = population | {"subjects": 1, "conditions": ["nm-01"], "frames": 2}
    write_walkers(tmp_path / "walkers", **small)
    with pytest.raises(DataError, match=f"walkers with other {next(iter(change))}: delete"):
        write_walkers(tmp_path / "walkers", **small | change)


def test_a_folder_of_something_else_is_refused(tmp_path, population):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"not an empty folder and has no {JOB_LOG}"):
        write_walkers(tmp_path, **population)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("content", ["", "[]"])
def test_a_damaged_manifest_is_refused(tmp_path, population, content):
    (tmp_path / JOB_LOG).write_text(content)
    with pytest.raises(DataError, match=f"{JOB_LOG} is damaged"):
        write_walkers(tmp_path, **population)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_subjects": 4}, "3 subjects cannot include 4 for testing"),
        ({"subjects": 0, "test_subjects": 0}, "0 subjects"),
        ({"views": ["45"]}, "unknown view '45'"),
        ({"conditions": ["nm-07"]}, "unknown condition 'nm-07'"),
        ({"frames": 0}, "frames 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_impossible_populations_are_refused(tmp_path, population, change, message):
    with pytest.raises(DataError, match=message):
        write_walkers(tmp_path / "walkers", **population | change)
    assert not (tmp_path / "walkers").exists()


def test_a_killed_worker_is_one_line_and_the_next_run_goes_on(tmp_path, population):
    def kill_the_first_worker():
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_worker, daemon=True)
    killer.start()
    root = tmp_path / "walkers"
    with pytest.raises(DataError, match=r"^a worker process was killed, .*; run the same command again"):
        write_walkers(root, **population, workers=2)
    killer.join()
    assert not (tmp_path / "walkers_partition.json").exists()
    with pytest.raises(DataError, match="the preparation of .* is not complete.*mcl-jax walkers"):
        list_tree(root)
    write_walkers(root, **population)
    assert len(list_tree(root)) == 12


def test_a_tree_of_an_earlier_version_is_named(tmp_path, population):
    (tmp_path / "walkers.json").write_text("{}")
    with pytest.raises(DataError, match=r"earlier version \(walkers\.json\)"):
        write_walkers(tmp_path, **population)


def test_a_prepared_dataset_is_left_alone(tmp_path, population):
    (tmp_path / JOB_LOG).write_text('{"format":1,"dataset":"casiab","kind":"pkl","complete":true}\n')
    with pytest.raises(DataError, match="holds a prepared dataset, not walkers"):
        write_walkers(tmp_path, **population)


# The script


def make_walkers(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, check=False)


def test_script_writes_tree_and_sheet(tmp_path):
    flags = [
        "--subjects",
        "2",
        "--test-subjects",
        "1",
        "--views",
        "000",
        "--conditions",
        "nm-01",
        "--frames",
        "4",
    ]
    out, sheet = tmp_path / "walkers", tmp_path / "sheet.png"
    done = make_walkers("--out", str(out), "--sheet", str(sheet), "--workers", "0", *flags)
    assert done.returncode == 0, done.stderr
    assert "2 subjects, 2 new sequences" in done.stdout
    assert len(tree(out)) == 2
    assert sheet.stat().st_size > 0


def test_script_says_a_mistake_in_one_line(tmp_path):
    done = make_walkers("--out", str(tmp_path / "walkers"), "--coat", "7")
    assert done.returncode == 1
    assert done.stderr == "error: WalkerStyle.coat = 7.0 is outside 0..3\n"
