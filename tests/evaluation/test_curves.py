import json

import numpy as np

from mcl_jax.evaluation.page.curves import LINES, PAGE, Curves, training_page


def test_a_run_that_goes_on_from_a_checkpoint_drops_what_came_after_it(tmp_path):
    curves = Curves(tmp_path, 0)
    for step in (10, 20, 30):
        curves.add(step, {"train/loss": 1 / step})
    with (tmp_path / LINES).open("a") as file:
        file.write('{"step": 40, "tr')  # killed here
    again = Curves(tmp_path, 20)
    again.add(25, {"train/loss": float("nan")})
    points = [json.loads(line) for line in (tmp_path / LINES).read_text().splitlines()]
    assert points == [
        {"step": 10, "train/loss": 0.1},
        {"step": 20, "train/loss": 0.05},
        {"step": 25, "train/loss": None},
    ]
    again.write_page()
    assert (tmp_path / PAGE).read_text().count("<polyline") == 1


def test_a_curve_goes_from_corner_to_corner():
    points = [{"step": step, "loss": value} for step, value in ((0, 3.0), (5, 2.0), (10, 1.0))]
    page = training_page("run", points).decode()
    assert 'points="0.0,0.0 280.0,90.0 560.0,180.0"' in page
    assert "loss from step 0 to 10: between 1 and 3, at last 1" in page


def test_a_long_curve_is_thinned_and_keeps_its_end():
    points = [{"step": step, "loss": np.sin(step)} for step in range(100_000)]
    page = training_page("run", points)
    assert len(page) < 20_000
    assert b" 560.0," in page


def test_a_run_without_a_report_says_so():
    assert "No step has been reported yet" in training_page("<run>", []).decode()
    assert "Training of &lt;run&gt;" in training_page("<run>", []).decode()
