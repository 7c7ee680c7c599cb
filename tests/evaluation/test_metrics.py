import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcl_jax.evaluation import metrics

DISTANCES = np.array([[3, 1, 2, 4], [1, 1, 1, 0], [1, 2, 3, 4]], np.float32)
MATCH = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)


def slow(distances, match):
    """First rank, AP and INP of one probe by walking down its ranked list."""
    ranked = sorted(range(len(distances)), key=lambda j: (distances[j], j))
    positions = [place + 1 for place, j in enumerate(ranked) if match[j]]
    if not positions:
        return metrics.NO_MATCH, 0, 0
    precision = [(number + 1) / place for number, place in enumerate(positions)]
    return positions[0], np.mean(precision), len(positions) / positions[-1]


def test_hand_computed_ranks_with_ties_and_without_match():
    # Probe 0 ranks 1, 2, 0, 3 → match at 2; probe 1 ranks 3, 0, 1, 2 (ties by order) → match at 3.
    ranks = metrics.first_match_ranks(DISTANCES, MATCH)
    assert ranks.tolist() == [2, 3, metrics.NO_MATCH]


def test_hand_computed_cmc():
    ranks = np.array([1, 3, 3, metrics.NO_MATCH])
    np.testing.assert_array_equal(metrics.cmc(ranks, 4), [25, 25, 75, 75])


def test_hand_computed_average_precision():
    # Matches at places 2, 3 and at 3, 4.
    ap, inp = metrics.average_precision(DISTANCES, MATCH)
    np.testing.assert_allclose(ap, [(1 / 2 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2, 0])
    np.testing.assert_allclose(inp, [2 / 3, 2 / 4, 0])


def test_nearest_keeps_gallery_order_in_ties():
    assert metrics.nearest(DISTANCES, 3).tolist() == [[1, 2, 0], [3, 0, 1], [0, 1, 2]]


def test_hidden_sequences_do_not_count():
    distances = np.array([[np.inf, 2, 1]], np.float32)
    match = np.array([[False, True, False]])
    assert metrics.first_match_ranks(distances, match).tolist() == [2]
    ap, inp = metrics.average_precision(distances, match)
    assert (ap[0], inp[0]) == (0.5, 0.5)


@st.composite
def ranking(draw):
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    grid = st.lists(st.integers(0, 4), min_size=n * m, max_size=n * m)  # few values, so many ties
    distances = np.array(draw(grid), np.float32).reshape(n, m)
    match = np.array(draw(grid)).reshape(n, m) < 2
    return distances, match


@given(ranking())
def test_equals_a_loop_over_the_ranking(case):
    distances, match = case
    truth = [slow(d, ok) for d, ok in zip(distances, match, strict=True)]
    assert metrics.first_match_ranks(distances, match).tolist() == [rank for rank, _, _ in truth]
    ap, inp = metrics.average_precision(distances, match)
    np.testing.assert_allclose(ap, [value for _, value, _ in truth])
    np.testing.assert_allclose(inp, [value for _, _, value in truth])


@given(st.integers(0, 1000))
def test_gallery_order_is_irrelevant_without_ties(seed):
    rng = np.random.default_rng(seed)
    distances, match = rng.permutation(24).reshape(3, 8).astype(np.float32), rng.random((3, 8)) < 0.4
    order = rng.permutation(8)
    for metric in (metrics.first_match_ranks, metrics.average_precision):
        np.testing.assert_array_equal(metric(distances, match), metric(distances[:, order], match[:, order]))


def test_more_probes_than_one_chunk():
    rng = np.random.default_rng(0)
    distances, match = rng.random((metrics.ROWS + 5, 6), np.float32), rng.random((metrics.ROWS + 5, 6)) < 0.3
    truth = [slow(d, ok) for d, ok in zip(distances, match, strict=True)]
    assert metrics.first_match_ranks(distances, match).tolist() == [rank for rank, _, _ in truth]
    np.testing.assert_allclose(metrics.average_precision(distances, match)[0], [ap for _, ap, _ in truth])
    assert metrics.nearest(distances, 6).shape == distances.shape
