import numpy as np

from mcl_jax.utils.sheets import labelled


def test_names_stand_beside_the_rows_and_above_the_columns():
    sheet = np.full((2 * 30, 3 * 20), 7, np.uint8)
    whole = labelled(sheet, ["001 nm-01", "a name as long as this is cut in its middle"], ["000", "090", "é"])
    assert np.array_equal(whole[-60:, -60:], sheet)
    margin = whole[-60:, :-60]
    assert (margin[:30] > 200).any()
    assert (margin[30:] > 200).any()
    assert not (margin[:, -4:] > 32).any()
    for i in range(3):
        assert (whole[:-60, -60 + 20 * i :][:, :20] > 150).any()
    assert margin.shape[1] < 300
