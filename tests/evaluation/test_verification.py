import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from mcl_jax.errors import ConfigError
from mcl_jax.evaluation import bootstrap, pairs, verification
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.pairs import Pairs
from mcl_jax.evaluation.plots import draw_cmc, draw_det, draw_roc
from mcl_jax.evaluation.protocols import Protocol, get_protocol
from mcl_jax.evaluation.report import score
from mcl_jax.evaluation.rerank import Rerank
from mcl_jax.evaluation.roles import Roles, assign_roles
from mcl_jax.evaluation.scoring import longest_gallery, score_groups

OPEN = Protocol("open", "Open", gallery=("g",), probes={"all": ("p",)}, unmatched="wrong")


def sets(subjects, conditions, views, points=None) -> EmbeddingSet:
    if points is None:
        points = np.zeros(len(subjects))
    x = np.asarray(points, np.float32).reshape(len(subjects), 1, -1)
    return EmbeddingSet(x, *(np.array(labels) for labels in (subjects, conditions, views)))


def verified(distances, probes, gallery) -> verification.Verification:
    """Verification of a matrix of distances between probes and gallery sequences of these subjects."""
    n, m = len(probes), len(gallery)
    matrix = np.asarray(distances, np.float32).reshape(n, m)
    labels = sets([*probes, *gallery], ["p"] * n + ["g"] * m, [f"{i}" for i in range(n + m)])
    roles = Roles({"all": np.arange(n)}, np.arange(n, n + m))
    counted = Pairs(labels.subjects, roles.probes)
    groups = score_groups(
        OPEN, labels, roles, lambda p, g: matrix[np.ix_(p, g - n)].astype(np.float32), counted.add
    )
    return verification.verify(OPEN, roles, groups, counted)


def four(impostors, genuine=(0.5, 1.5, 2.5, 20)) -> verification.Verification:
    """Four subjects, a probe and a gallery sequence of each: 4 genuine and 12 impostor pairs."""
    matrix = np.diag(np.array(genuine, float))
    matrix[~np.eye(4, dtype=bool)] = impostors
    return verified(matrix, list("abcd"), list("abcd"))


def test_hand_computed_rates_and_thresholds():
    result = four(range(1, 13))
    assert (result.genuine, result.impostor, result.subjects) == ({"all": 4}, 12, 4)
    np.testing.assert_array_equal(result.curve.thresholds, [0.5, 1, 1.5, 2, 2.5, *range(3, 13), 20])
    np.testing.assert_array_equal(result.curve.far * 12, [0, 1, 1, 2, 2, *range(3, 13), 12])
    np.testing.assert_array_equal(result.curve.tar * 4, [1, 1, 2, 2, 3, *[3] * 10, 4])
    # FAR ≤ 1/10 leaves one impostor pair, so all below the second, at 2.
    (point,) = result.points
    assert (point.rate, point.threshold, point.far.value, point.tar.value) == (0.1, 1.5, 1 / 12, 50)
    assert point.groups["all"] == point.tar
    # At 2.5 a quarter of the genuine pairs is refused, and 2 of 12 impostor pairs are accepted.
    assert (result.eer.value, result.eer_threshold) == (25, 2.5)
    assert result.left_out[1e-2] == "there are 12 impostor pairs, but this rate needs at least 100"
    assert list(result.left_out) == [1e-2, 1e-3, 1e-4]
    assert result.threshold(0.17) == 2.5
    assert result.threshold(0.25) == 3
    with pytest.raises(
        ConfigError,
        match="no threshold for 0.07: there are 12 impostor pairs, but this rate needs at least 15",
    ):
        result.threshold(0.07)


def test_a_threshold_with_exactly_the_rate_is_allowed():
    pairs_of_five = [5, *range(6, 25)]
    matrix = np.zeros((5, 5))
    matrix[~np.eye(5, dtype=bool)] = pairs_of_five
    result = verified(matrix, list("abcde"), list("abcde"))
    assert (result.points[0].threshold, result.points[0].far.value) == (6, 0.1)


def test_ties_are_refused_together():
    tied = four([1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    assert (tied.points[0].threshold, tied.points[0].far.value, tied.points[0].tar.value) == (0.5, 0, 25)
    assert tied.threshold(0.17) == 1.5
    # A genuine pair at the impostors' distance cannot be accepted without them.
    assert four([1, 1, *range(2, 12)], genuine=(0.5, 1, 1, 1)).points[0].tar.value == 25
    lowest = four([1, 1, *range(2, 12)], genuine=(1, 3, 3, 3))
    assert not lowest.points
    assert lowest.left_out[0.1] == "0.17 of the impostor pairs have the minimum distance, 1"
    with pytest.raises(ConfigError, match=r"^far: no threshold for 0.1: 0.17 of the impostor pairs"):
        lowest.threshold(0.1)


def test_perfect_separation():
    result = four(12 * [3], genuine=(0, 1, 1, 2))
    assert (result.eer.value, result.eer_threshold) == (0, 2)
    assert (result.points[0].threshold, result.points[0].tar.value) == (2, 100)
    assert (result.points[0].tar.low, result.points[0].tar.high) == (100, 100)


def test_distances_below_zero_by_rounding_count_as_zero():
    result = four(range(1, 13), genuine=(-1e-7, -0.0, 0, 0))
    np.testing.assert_array_equal(result.curve.thresholds[:2], [0, 1])
    assert result.curve.tar[0] == 1


@st.composite
def matrices(draw):
    """(distances, subjects of the probes, subjects of the gallery), with ties and close neighbours."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n, m = draw(st.integers(1, 25)), draw(st.integers(1, 25))
    probes, gallery = (
        rng.choice(list("abcdefgh")[: draw(st.integers(1, 8))], size).tolist() for size in (n, m)
    )
    distances = rng.gamma(3, draw(st.sampled_from([1e-3, 1, 50])), (n, m)).astype(np.float32)
    same = np.array(probes)[:, None] == np.array(gallery)
    distances[same] *= np.float32(0.6)
    if draw(st.booleans()):
        distances = np.round(distances, 1)
    return distances, probes, gallery


@settings(max_examples=12)
@given(matrices())
def test_properties_of_curve_and_thresholds(example):
    distances, probes, gallery = example
    result = verified(*example)
    same = np.array(probes)[:, None] == np.array(gallery)
    curve = result.curve
    for rates, values in ((curve.far, distances[~same]), (curve.tar, distances[same])):
        if values.size:
            # The rates are those of the distances themselves, not of their counts on the grid.
            exact = (values[None] <= curve.thresholds[:, None]).mean(axis=1)
            np.testing.assert_array_equal(rates, exact)
            assert (np.diff(rates) >= 0).all()
            assert rates[-1] == 1
        else:
            assert np.isnan(rates).all()
    assert (np.diff(curve.thresholds) > 0).all()
    for far in (0.5, 0.1, 0.02):
        try:
            threshold = result.threshold(far)
        except ConfigError:
            continue
        assert (distances[~same] <= threshold).mean() <= far
        further = distances[distances > threshold]
        if further.size:  # the next distance, but for the grid, is too far
            assert (distances[~same] <= further.min() * (1 + 2**-15)).mean() > far
    for point in result.points:
        assert point.threshold == result.threshold(point.rate)
        assert point.far.value <= point.rate
    if same.any() and not same.all():
        worse = np.maximum(curve.far, 1 - curve.tar)
        assert result.eer.value == 100 * worse.min()


@settings(max_examples=8)
@given(matrices(), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7]))
def test_neither_order_nor_tiles_change_anything(example, seed, tile):
    distances, probes, gallery = example
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(len(probes)), rng.permutation(len(gallery))
    shuffled = distances[np.ix_(i, j)], [probes[k] for k in i], [gallery[k] for k in j]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "TILE", tile)
        other = verified(*shuffled).as_json()
    result = verified(*example).as_json()
    if len(set(distances.ravel().tolist())) < distances.size:  # ties are ranked by gallery order
        result.pop("rank1"), other.pop("rank1")
    np.testing.assert_equal(result, other)


def test_pairs_count_by_the_weights_of_their_subjects():
    rng = np.random.default_rng(0)
    names = np.array(list("abcde"))
    probes, gallery = rng.choice(names, 9), rng.choice(names, 13)
    distances = rng.integers(1, 2000, (9, 13)).astype(np.float32)  # exact on the coarse grid
    distances[3, 5] = np.inf
    counted = Pairs(np.concatenate([probes, gallery]), ["all"])
    counted.add("all", np.arange(9), np.arange(9, 22), distances)
    weights = rng.integers(0, 3, (4, 5)).astype(float)
    keys = counted.impostor.coarse_keys()
    limits = np.unique(distances[(probes[:, None] != gallery) & np.isfinite(distances)])
    assert len(keys) == len(limits)
    found = counted.impostor.weighted_up_to(weights, keys)
    for b, w in enumerate(weights):
        for k, limit in enumerate(limits):
            expected = sum(
                w["abcde".index(p)] + w["abcde".index(g)]
                for i, p in enumerate(probes)
                for j, g in enumerate(gallery)
                if p != g and distances[i, j] <= limit
            )
            assert found[b, k] == expected


def test_resamples_draw_only_present_subjects():
    present = np.array([True, False, True, True])
    weights = bootstrap.subject_weights(present)
    assert weights.shape == (1 + bootstrap.RESAMPLES, 4)
    assert weights[0].tolist() == [1, 0, 1, 1]
    assert (weights.sum(axis=1) == 3).all()
    assert not weights[:, 1].any()
    np.testing.assert_allclose(weights[1:].mean(axis=0)[present], 1, atol=0.1)
    assert np.array_equal(weights, bootstrap.subject_weights(present))
    assert len(bootstrap.subject_weights(np.array([False, True]))) == 1


def test_an_interval_is_shifted_to_the_figure():
    resampled = np.array([49.0, *np.linspace(0, 80, 1000), np.nan])
    estimate = bootstrap.estimate(50.0, resampled)
    assert (estimate.low, estimate.high) == pytest.approx((80 * 0.025 + 1, 80 * 0.975 + 1))
    assert bootstrap.estimate(90.0, np.array([50.0, 70.0, 70.0])).high == 100
    assert np.isnan(bootstrap.estimate(90.0, np.array([50.0])).low)
    assert np.isnan(bootstrap.estimate(np.nan, resampled).high)


def test_the_interval_of_rank_1_is_that_of_right_and_wrong_subjects():
    # 20 subjects of 3 probes, all right or all wrong: of 20 draws, binomial quantiles are 6 and 14 right.
    subjects = [f"{s:02d}" for s in range(20)]
    probes = [s for s in subjects for _ in range(3)]
    matrix = np.array([[float((p == g) == (int(p) >= 10)) for g in subjects] for p in probes])
    rank1 = verified(matrix, probes, subjects).rank1["all"]
    assert rank1.value == 50
    assert 25 <= rank1.low <= 30
    assert 70 <= rank1.high <= 75


def test_intervals_hold_the_true_rates(monkeypatch):
    # Subjects of their own place and spread; the rates among 600 others are the truth.
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    rng = np.random.default_rng(3)

    def distances_of(count):
        centre, spread = rng.standard_normal((count, 3)), rng.uniform(0.2, 0.6, (count, 1, 1))
        walks = centre[:, None] + spread * rng.standard_normal((count, 4, 3))
        probes, gallery = walks[:, :2].reshape(-1, 3), walks[:, 2:].reshape(-1, 3)
        return np.linalg.norm(probes[:, None] - gallery, axis=2), np.repeat(np.arange(count), 2)

    big, owners = distances_of(600)
    same = owners[:, None] == owners
    held = {"far": 0, "eer": 0}
    genuine, impostor = np.sort(big[same]), np.sort(big[~same])
    far = np.searchsorted(impostor, genuine, side="right") / len(impostor)
    truth = 100 * np.maximum(far, 1 - np.arange(1, len(genuine) + 1) / len(genuine)).min()
    for _ in range(20):
        matrix, names = distances_of(40)
        result = verified(matrix, [f"{s:02d}" for s in names], [f"{s:02d}" for s in names])
        held["eer"] += result.eer.low <= truth <= result.eer.high
        point = result.points[1]
        held["far"] += point.far.low <= (big[~same] <= point.threshold).mean() <= point.far.high
    assert held["eer"] >= 16
    assert held["far"] >= 16


def test_without_impostor_pairs_nothing_is_known():
    result = verified([[1, 2]], ["a"], ["a", "a"])
    assert (result.genuine, result.impostor, result.points) == ({"all": 2}, 0, ())
    assert np.isnan([result.eer.value, result.eer.low, result.eer_threshold]).all()
    assert set(result.left_out.values()) == {"there are no impostor pairs"}
    assert result.rank1["all"].value == 100
    assert np.isnan(result.rank1["all"].low)  # one subject cannot be resampled
    with pytest.raises(ConfigError, match="no threshold for 0.001: there are no impostor pairs"):
        result.threshold(1e-3)


def test_without_genuine_pairs_only_true_accept_rates_are_unknown():
    result = verified(np.arange(1, 21), ["a"], ["b"] * 10 + ["c"] * 10)
    (point,) = result.points
    assert (point.threshold, point.far.value) == (2, 0.1)
    assert np.isnan([point.tar.value, point.tar.low, result.eer.value, result.rank1["all"].value]).all()


@pytest.mark.parametrize("far", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_an_invalid_rate_is_refused(far):
    with pytest.raises(ConfigError, match=r"^far: .* is not a false-accept rate: give a share such as 0.001"):
        four(range(1, 13)).threshold(far)


def casia(views=("000", "090", "180")) -> EmbeddingSet:
    conditions = ["nm-01", "nm-02", "nm-05", "bg-01", "cl-01"]
    labels = [(f"{s:03d}", c, v) for s in range(6) for c in conditions for v in views]
    rng = np.random.default_rng(0)
    points = [rng.standard_normal(4) + 2 * np.cos(int(s) * np.arange(1, 5)) for s, _, _ in labels]
    return sets(*zip(*labels, strict=True), points)


def test_a_report_counts_the_pairs_of_its_protocol(tmp_path):
    report = score(casia(), "casiab")
    result = report.verification
    # Per group 6 subjects of 3 views; each probe meets 2 walks of each subject in the 2 other views.
    assert result.genuine == {"NM": 72, "BG": 72, "CL": 72}
    assert result.impostor == 3 * 18 * 5 * 4
    assert set(result.points[0].groups) == {"NM", "BG", "CL"}
    assert set(result.rank1) == {"NM", "BG", "CL", "mean"}
    for name, estimate in result.rank1.items():
        assert estimate.value == pytest.approx(report.scores[name]["Rank-1"], abs=0.005)
        assert estimate.low <= estimate.value <= estimate.high
    assert report.threshold(far=0.1) == result.points[0].threshold
    report.write(tmp_path)
    saved = json.loads((tmp_path / "metrics.json").read_text())["verification"]
    assert saved == report.metrics["verification"]
    assert saved["operating_points"][0]["threshold"] == report.threshold(0.1)
    assert [entry["rate"] for entry in saved["left_out"]] == [1e-4]


def test_a_probe_does_not_meet_its_own_view_where_the_protocol_hides_it():
    conditions = ["nm-01", "nm-02", "bg-01", "bg-02", "cl-01", "cl-02"]
    labels = [(f"{s}", c, v) for s in range(3) for c in conditions for v in ("000", "090")]
    points = np.random.default_rng(0).standard_normal((len(labels), 2))
    result = score(sets(*zip(*labels, strict=True), points), "casiab_cross_view").verification
    # 6 probes a group; of 6 gallery walks of its subject, 3 are of its view. Others' walks are all seen.
    assert result.genuine == {"NM": 18, "BG": 18, "CL": 18}
    assert result.impostor == 3 * 6 * 12


def test_thresholds_are_of_distances_before_re_ranking():
    plain, again = (score(casia(), "casiab", rerank=rerank) for rerank in (None, Rerank(4, 2, 0.3)))
    assert again.verification.points == plain.verification.points
    assert again.verification.eer == plain.verification.eer
    assert again.scores != plain.scores


def test_a_single_view_has_pictures_that_say_so(tmp_path):
    report = score(casia(views=["000"]), "casiab")
    report.write(tmp_path)
    assert (report.verification.impostor, report.verification.points) == (0, ())
    saved = json.loads((tmp_path / "metrics.json").read_text())["verification"]
    assert saved["eer"] == {"value": None, "low": None, "high": None, "threshold": None}
    for draw in (draw_roc, draw_det):
        (axes,) = draw(report.protocol, report.verification).axes
        assert [text.get_text() for text in axes.texts] == ["n/a: there are no impostor pairs"]
        assert not axes.lines


def test_submission_protocols_have_no_threshold():
    labels = [(f"{s}", "01", "g") for s in range(20)] + [("probe", "03", "p")]
    report = score(sets(*zip(*labels, strict=True), np.arange(21)), "grew_submission")
    assert report.verification is None
    assert "verification" not in report.metrics
    with pytest.raises(ConfigError, match="protocol grew_submission: no threshold: only the benchmark knows"):
        report.threshold(1e-3)


def test_axes_of_error_rates_separate_the_curves():
    report = score(casia(), "casiab")
    lowest = max(1 / report.verification.impostor, min(p.rate for p in report.verification.points) / 3)
    for draw, scales in ((draw_roc, ("log", "linear")), (draw_det, ("function", "function"))):
        figure = draw(report.protocol, report.verification, "gaitset")
        (axes,) = figure.axes
        assert (axes.get_xscale(), axes.get_yscale()) == scales
        assert axes.get_xlim()[0] == lowest
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels[0].startswith(f"all: equal error rate {report.verification.eer.value:.2f} % (")
        assert labels[1:4] == ["NM", "BG", "CL"]
        assert figure.get_suptitle() == "gaitset on CASIA-B\ngallery of one view, identical view left out"


def test_normal_distances_make_a_straight_line():
    report = score(casia(), "casiab")
    (axes,) = draw_det(report.protocol, report.verification).axes
    rates = np.array([[0.001, 0.01, 0.1, 0.5], [0.5, 0.1, 0.01, 0.001]])
    x, y = axes.transScale.transform(rates.T).T
    assert np.allclose(x, ndtri(rates[0]))
    assert np.allclose(y, ndtri(rates[1]))


@pytest.mark.parametrize(
    ("gallery", "ticks"), [(1, [1]), (3, [1, 2, 3]), (12, [1, 5, 10]), (30, [1, 5, 10, 15, 20])]
)
def test_the_cmc_plot_ends_with_the_gallery_and_begins_below_the_curves(gallery, ticks):
    report = score(casia(), "casiab")
    (axes,) = draw_cmc(get_protocol("casiab"), report.groups, gallery).axes
    assert axes.get_xlim() == (0.5, min(gallery, 20) + 0.5)
    assert axes.get_xticks().tolist() == ticks
    lowest = min(line.get_ydata().min() for line in axes.lines)
    assert lowest - 20 * 1.2 <= axes.get_ylim()[0] < lowest
    assert all(len(line.get_xdata()) == min(gallery, 20) for line in axes.lines)


def test_the_gallery_of_a_ranking_is_that_of_its_block():
    protocol, embeddings = get_protocol("casiab"), casia()
    roles = assign_roles(protocol, embeddings)
    assert longest_gallery(protocol, embeddings, roles) == 12  # 6 subjects, 2 walks of one view
    whole = dataclasses.replace(protocol, blocks="all", leave_out="nothing")
    assert longest_gallery(whole, embeddings, roles) == 36
