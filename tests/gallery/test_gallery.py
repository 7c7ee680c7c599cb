"""Galleries: nearest people, thresholds, and the files after two writers, a kill or damage."""

import contextlib
import json
import multiprocessing

import numpy as np
import pytest

from mcl_jax.errors import DataError
from mcl_jax.gallery.calibration import Calibration, read_calibration
from mcl_jax.gallery.gallery import Gallery, open_gallery
from mcl_jax.gallery.store import INDEX, ModelId
from mcl_jax.utils.digest import sealed

MODEL = ModelId("runs/a", "0" * 64, 1, 2)
CALIBRATION = Calibration("metrics.json", "euc", {0.1: 2.0, 0.01: 1.0})


def at(x: float, y: float) -> np.ndarray:
    return np.array([[[x, y]]], np.float32)


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    made = open_gallery(tmp_path / "G", create=MODEL)
    made.enroll("Ann", at(0, 0), [30])
    made.enroll("Bob", np.concatenate([at(10, 0), at(3, 4)]), [30, 40])
    made.enroll("Cid", at(0, 20), [50])
    return made


def test_people_come_by_the_distance_of_their_nearest_walk(gallery):
    answer = gallery.identify(at(0, 0)[0], top=2)
    assert [(match.name, match.distance) for match in answer.matches] == [("Ann", 0.0), ("Bob", 5.0)]
    assert (answer.name, answer.threshold, answer.far, answer.decided) == (None, None, None, False)


@pytest.mark.parametrize(
    ("x", "far", "name"),
    [(1.0, None, "Ann"), (1.5, None, None), (1.5, 0.1, "Ann"), (2.0, 0.1, "Ann"), (-2.5, 0.1, None)],
)
def test_the_nearest_is_named_at_or_below_the_threshold_of_the_rate(gallery, x, far, name):
    gallery.calibrate(CALIBRATION)
    answer = open_gallery(gallery.path).identify(at(x, 0)[0], far=far)
    assert answer.name == name
    assert answer.far == (far or 0.01)
    assert answer.walks == 4


def test_a_person_whose_walks_are_all_nearest_does_not_hide_the_next(tmp_path):
    made = open_gallery(tmp_path / "G", create=MODEL)
    made.enroll("Ann", np.concatenate([at(i / 100, 0) for i in range(50)]), [30] * 50)
    made.enroll("Bob", at(9, 0), [30])
    assert [match.name for match in made.identify(at(0, 0)[0], top=2).matches] == ["Ann", "Bob"]


def test_rename_and_delete_are_seen_by_the_next_reader_and_leave_nothing_behind(gallery):
    gallery.rename("Cid", "Eve")
    gallery.delete("Bob")
    again = open_gallery(gallery.path)
    assert again.people() == {"Ann": 1, "Eve": 1}
    assert again.identify(at(3, 4)[0], top=3).matches[0].name == "Ann"
    again.check()
    arrays = list(gallery.path.glob("*.f32"))
    assert len(arrays) == 1
    assert at(3, 4).tobytes() not in arrays[0].read_bytes()
    assert b"Bob" not in (gallery.path / INDEX).read_bytes()


def test_a_reader_keeps_its_snapshot_while_another_deletes(gallery):
    reader = open_gallery(gallery.path)
    gallery.delete("Ann")
    assert reader.identify(at(0, 0)[0]).matches[0].name == "Ann"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda g: g.enroll("Ann", at(1, 1), [30]), "'Ann' exists already; add walks"),
        (lambda g: g.enroll(" ", at(1, 1), [30]), "name: ' ' is not valid"),
        (lambda g: g.enroll("a\nb", at(1, 1), [30]), "is not valid"),
        (lambda g: g.enroll("Eve", at(np.nan, 1), [30]), "needs finite float32 embeddings"),
        (lambda g: g.enroll("Eve", at(1, 1), [30, 40]), "needs finite float32 embeddings"),
        (lambda g: g.rename("Ann", "Bob"), "'Bob' exists already"),
        (lambda g: g.rename("Eve", "Fay"), "has nobody called 'Eve'"),
        (lambda g: g.delete("Eve"), "has nobody called 'Eve'"),
        (lambda g: g.check_model("1" * 64, "runs/b"), "was made with the model"),
        (
            lambda g: g.identify(np.zeros((2, 2), np.float32)),
            "its embeddings are 1 × 2, but this one is 2 × 2",
        ),
        (lambda g: g.identify(at(1, 1)[0], far=0.01), "has no thresholds"),
        (lambda g: g.calibrate(CALIBRATION) or g.identify(at(1, 1)[0], far=0.5), "no threshold for 0.5"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(gallery, change, told):
    with pytest.raises(DataError) as error:
        change(gallery)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert open_gallery(gallery.path).people() == {"Ann": 1, "Bob": 2, "Cid": 1}


def test_add_adds_a_walk_to_a_person(gallery):
    gallery.enroll("Ann", at(50, 0), [30], add=True)
    assert gallery.people()["Ann"] == 2
    assert gallery.identify(at(50, 0)[0]).matches[0].name == "Ann"


def test_what_a_writer_left_that_died_before_the_index_is_overwritten(gallery):
    data = next(gallery.path.glob("*.f32"))
    data.write_bytes(data.read_bytes() + b"half a row")
    gallery.enroll("Eve", at(7, 7), [30])
    again = open_gallery(gallery.path)
    again.check()
    assert again.identify(at(7, 7)[0]).matches[0].name == "Eve"


def test_a_cut_off_array_is_refused_by_readers_and_writers(gallery):
    data = next(gallery.path.glob("*.f32"))
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(DataError, match="is cut off"):
        open_gallery(gallery.path)
    with pytest.raises(DataError, match="is cut off"):
        gallery.enroll("Eve", at(7, 7), [30])


def test_a_changed_byte_of_an_embedding_is_found_before_anybody_is_named(gallery):
    data = next(gallery.path.glob("*.f32"))
    content = bytearray(data.read_bytes())
    content[3] ^= 0x40  # 0.0 becomes 2.0
    data.write_bytes(content)
    # Also where others are nearer, as those may be whom the damage has moved away.
    for walk in (at(0, 0), at(10, 0)):
        with pytest.raises(DataError, match="a walk of 'Ann' is damaged"):
            open_gallery(gallery.path).identify(walk[0])
    with pytest.raises(DataError, match="a walk of 'Ann' is damaged"):
        open_gallery(gallery.path).check()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace("embeddings-0.f32", "../embeddings-0.f32"),
        lambda text: text.replace('"channels": 2', '"channels": 0'),
        lambda text: text.replace('["Ann", 30, ', '["Ann", "30", '),
        lambda text: text.replace('"walks"', '"walk"'),
    ],
)
def test_a_damaged_index_is_refused_in_one_line(gallery, change):
    path = gallery.path / INDEX
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=r"gallery\.json: is damaged or cut off") as error:
        open_gallery(gallery.path)
    assert "\n" not in str(error.value)


def test_no_flipped_bit_of_the_index_changes_an_answer_in_silence(gallery):
    gallery.calibrate(CALIBRATION)
    path = gallery.path / INDEX
    content, walk = path.read_bytes(), at(1, 1)[0]
    expected = gallery.people(), gallery.identify(walk, far=0.1)
    refused = 0
    for bit in range(0, 8 * len(content), 7):  # 7 is prime to 8: every bit of a byte has its turn
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read = open_gallery(gallery.path)
        except DataError as error:
            refused += "\n" not in str(error)
        else:
            assert (read.people(), read.identify(walk, far=0.1)) == expected
    assert refused > len(content)


def test_a_gallery_without_a_digest_is_read_with_a_line_and_the_next_change_adds_one(gallery, caplog):
    path = gallery.path / INDEX
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    again = open_gallery(gallery.path)
    assert again.people() == {"Ann": 1, "Bob": 2, "Cid": 1}
    (record,) = caplog.records
    assert "from an earlier version, without a digest" in record.getMessage()
    again.rename("Ann", "Eve")
    caplog.clear()
    assert "Eve" in open_gallery(gallery.path).people()
    assert not caplog.records


COMPOSED, DECOMPOSED = "Ren\u00e9", "Rene\u0301"


def test_names_that_look_alike_are_one_person(gallery):
    assert gallery.enroll(f" {DECOMPOSED} ", at(7, 7), [30]) == COMPOSED
    for name in (COMPOSED, DECOMPOSED, f"{COMPOSED} "):
        with pytest.raises(DataError, match="'René' exists already"):
            gallery.enroll(name, at(7, 7), [30])
        with pytest.raises(DataError, match="'René' exists already"):
            gallery.rename("Ann", name)
    gallery.enroll(f"\u2003{DECOMPOSED}", at(7, 8), [30], add=True)
    assert gallery.people()[COMPOSED] == 2
    gallery.rename(DECOMPOSED, " Zoë ")
    gallery.delete(" Zoë")
    assert gallery.people() == {"Ann": 1, "Bob": 2, "Cid": 1}


def test_an_older_gallery_with_names_that_look_the_same_says_so_and_can_be_mended(gallery, caplog):
    path = gallery.path / INDEX
    content = json.loads(path.read_text())
    del content["sha256"]
    content["walks"][0][0], content["walks"][3][0] = " lead", "lead"
    path.write_text(json.dumps(content))
    again = open_gallery(gallery.path)
    assert "the names ' lead' and 'lead' of two people" in caplog.text
    with pytest.raises(DataError, match="'lead' exists already"):
        again.rename(" lead", "lead ")
    again.rename(" lead", "Ann")
    assert again.people() == {"Ann": 1, "Bob": 2, "lead": 1}


def test_no_gallery_and_another_version_say_so(tmp_path, gallery):
    with pytest.raises(DataError, match="is not a gallery; create one"):
        open_gallery(tmp_path / "none")
    path = gallery.path / INDEX
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DataError, match="another version"):
        open_gallery(gallery.path)


def enroll_ten(path, first: int) -> None:
    gallery = open_gallery(path, create=MODEL)
    for i in range(first, first + 10):
        gallery.enroll(f"person {i}", at(i, 0), [30])


def test_two_writers_lose_nobody(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=enroll_ten, args=(tmp_path / "G", first)) for first in (0, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
        assert writer.exitcode == 0
    gallery = open_gallery(tmp_path / "G")
    gallery.check()
    assert gallery.people() == {f"person {i}": 1 for i in (*range(10), *range(100, 110))}
    for i in (0, 9, 100, 109):
        assert gallery.identify(at(i, 0)[0]).matches[0].name == f"person {i}"


def metrics(**changes) -> str:
    verification = {"operating_points": [{"rate": 0.01, "threshold": 1.5, "far": {}}]}
    return json.dumps({"metric": "cos", "rerank": None, "verification": verification} | changes)


def test_thresholds_come_from_the_metrics_of_a_test(tmp_path, gallery):
    (tmp_path / "m.json").write_text(metrics())
    calibration = read_calibration(tmp_path / "m.json")
    assert (calibration.metric, calibration.thresholds) == ("cos", {0.01: 1.5})
    gallery.calibrate(calibration)
    again = open_gallery(gallery.path)
    assert again.calibration == calibration
    nearest = gallery.identify(at(1, 1)[0]).matches[0]
    assert nearest.name == "Bob"  # by direction, (3, 4); by distance it is Ann, (0, 0)
    assert nearest.distance == pytest.approx(1 - 7 / (5 * 2**0.5), abs=1e-6)


def test_no_flipped_bit_of_a_metrics_json_changes_a_threshold_in_silence(tmp_path, caplog):
    path = tmp_path / "m.json"
    model = {"digest": "0" * 64}
    path.write_text(json.dumps(sealed(json.loads(metrics(model=model))), indent=1))
    content, expected = path.read_bytes(), read_calibration(path)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert read_calibration(path) == expected
    assert not caplog.records
    path.write_text(metrics(model=model))
    assert read_calibration(path) == expected
    assert "has no digest" in caplog.text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "has no block 'verification'"),
        (metrics(rerank={"k1": 20}), "re-ranked"),
        (metrics(metric="l1"), "has no usable thresholds"),
        (metrics(verification={"operating_points": []}), "has no usable thresholds"),
        (metrics(verification={"operating_points": [{"rate": 0.1}]}), "cannot be read"),
        (metrics(verification={"operating_points": [{"rate": 0.1, "threshold": None}]}), "cannot be read"),
    ],
)
def test_metrics_without_a_threshold_are_refused(tmp_path, content, told):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(DataError, match=told):
        read_calibration(tmp_path / "m.json")
