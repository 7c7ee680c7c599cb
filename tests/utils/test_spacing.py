import numpy as np
import pytest

from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing

GAITGL = Spacing(multiple=3, least=4)


@pytest.mark.parametrize(
    ("spacing", "ids"),
    [
        (SIDE_BY_SIDE, [[0, 0, -1, 1, -1, -1], [0, 0, 0, 0, 0, 0], [-1] * 6]),
        (GAITGL, [[0, -1, -1, -1, -1, -1, 1, 1, 1, -1], [-1, -1, -1, 0, 0, 0, 0, 0, -1, 1]]),
        (Spacing(empty=2), [[0, -1, -1, 1]]),
    ],
)
def test_rows_that_keep_the_spacing_pass(spacing, ids):
    spacing.check(np.array(ids))


@pytest.mark.parametrize(
    ("spacing", "row"),
    [
        (SIDE_BY_SIDE, [0, 0, 1, 1, -1, -1, -1, -1, -1]),
        (GAITGL, [0, 0, 0, -1, 1, 1, 1, 1, -1]),  # begins beside a multiple of 3
        (GAITGL, [0, -1, -1, 1, 1, 1, -1, -1, -1]),  # no room to repeat the one frame
        (Spacing(empty=2), [0, 0, -1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_rows_that_do_not_are_named(spacing, row):
    with pytest.raises(ValueError, match="row 1 of a batch is not spaced as the model needs it: Spacing"):
        spacing.check(np.array([[0] * len(row), row]))
