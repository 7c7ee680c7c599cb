import numpy as np
import pytest
from scenes import (
    equal_error_rate,
    jackknife_error,
    score_across_scenes,
    scores_without_each_subject,
)

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet


def walks(*names: str) -> EmbeddingSet:
    subjects, scenes, takes = zip(*(name.split("/") for name in names), strict=True)
    embeddings = np.ones((len(names), 1, 1), np.float32)
    return EmbeddingSet(embeddings, np.array(subjects), np.array(scenes), np.array(takes))


def line(*positions: float) -> np.ndarray:
    return np.abs(np.subtract.outer(positions, positions))


def test_each_scene_is_searched_for_those_of_the_other():
    labels = walks("ann/in/0", "bob/in/0", "ann/out/0", "bob/out/0", "ann/out/1")
    scores = score_across_scenes(labels, line(0.0, 10.0, 1.0, 2.0, 9.0))
    # Inside, ann is nearest to 1 and bob to 9; outside, 1 and 2 are nearest to ann, 9 to bob.
    assert scores.rank1 == {("in", "out"): 50.0, ("out", "in"): pytest.approx(100 / 3)}
    assert scores.mean() == scores.mean("in", "out") == pytest.approx(250 / 6)


def test_a_probe_that_nobody_could_find_does_not_count():
    labels = walks("ann/in/0", "eve/in/0", "ann/out/0", "bob/out/0")
    scores = score_across_scenes(labels, line(0.0, 5.0, 1.0, 4.0))
    assert scores.rank1 == {("in", "out"): 100.0, ("out", "in"): 100.0}
    assert scores.mean_ap == 100.0


def test_walks_of_one_scene_are_never_compared():
    labels = walks("ann/in/0", "ann/in/1", "bob/in/0", "ann/out/0", "bob/out/0")
    distances = line(0.0, 3.0, 1.0, 0.2, 1.2)
    changed = distances.copy()
    changed[:3, :3] = 0
    changed[3:, 3:] = 0
    assert score_across_scenes(labels, changed) == score_across_scenes(labels, distances)


def test_nobody_in_two_scenes_is_an_error():
    with pytest.raises(DataError, match="nobody appears in two"):
        score_across_scenes(walks("ann/in/0", "bob/out/0"), line(0.0, 1.0))


def test_the_mean_over_unknown_scenes_is_an_error():
    scores = score_across_scenes(walks("ann/in/0", "ann/out/0", "bob/out/0"), line(0.0, 1.0, 2.0))
    with pytest.raises(DataError, match="no such pair"):
        scores.mean("in", "moon")


@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [
        ([1, 2], [3, 4], 0),  # a threshold between them makes no error
        ([1, 3], [2, 4], 50),  # at 2 one of two is refused, one of two accepted
        ([3, 4], [1, 2], 100),
        ([1, 1, 1, 5], [2, 6, 6, 6], 25),
    ],
)
def test_equal_error_rate(genuine, impostor, expected):
    assert equal_error_rate(np.array(genuine, float), np.array(impostor, float)) == expected


def test_equal_error_rate_needs_both_kinds():
    with pytest.raises(DataError, match="equal error rate"):
        equal_error_rate(np.array([1.0]), np.empty(0))


def test_each_subject_is_left_out_as_probe_and_in_the_gallery():
    labels = walks("ann/in/0", "bob/in/0", "cat/in/0", "ann/out/0", "bob/out/0", "cat/out/0")
    # Outside, cat stands where ann is looked for, and bob is far from everybody else.
    distances = line(0.0, 10.0, 3.0, 2.0, 11.0, 0.5)
    assert score_across_scenes(labels, distances).rank1["in", "out"] == pytest.approx(100 / 3)
    without_ann, without_bob, without_cat = scores_without_each_subject(labels, distances)
    assert without_ann.rank1["in", "out"] == 100.0
    assert without_bob.rank1["in", "out"] == 0.0
    assert without_cat.rank1["in", "out"] == 100.0


def test_the_jackknife_of_a_mean_is_its_standard_error():
    hits = np.array([0.0, 100.0, 100.0, 50.0])
    without = (hits.sum() - hits) / 3
    assert jackknife_error(without) == pytest.approx(hits.std(ddof=1) / 2)


def test_the_jackknife_needs_two_subjects():
    with pytest.raises(DataError, match="jackknife"):
        jackknife_error(np.array([50.0]))
