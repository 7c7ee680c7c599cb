import itertools
import json
import re

import numpy as np
import pytest

from mcl_jax.evaluation.colours import OVERALL, looks
from mcl_jax.evaluation.page.charts import ticks
from mcl_jax.evaluation.page.curves import LINES, PAGE, About, Curves, training_page


def test_a_resumed_run_drops_later_points(tmp_path):
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


def page_of(points, **about) -> str:
    return training_page(About("run", **about), points).decode()


def test_a_curve_goes_from_corner_to_corner_of_a_grid():
    page = page_of([{"step": step, "loss": value} for step, value in ((0, 3.0), (5, 2.0), (10, 1.0))])
    assert 'points="56.0,10.0 224.0,97.0 392.0,184.0"' in page
    assert "loss by step: between 1 and 3, last 1" in page
    assert all(f">{mark}</text>" in page for mark in ("1", "1.5", "2", "2.5", "3"))


def test_a_long_curve_is_thinned_and_keeps_its_end_and_its_peak():
    points = [{"step": step, "loss": np.sin(step) + 50 * (step == 31_415)} for step in range(100_000)]
    page = page_of(points)
    assert len(page) < 25_000
    assert " 392.0," in page
    assert (
        min(float(y) for y in re.findall(r"\d,([\d.]+)", re.search(r'points="([^"]*)"', page)[1])) < 40
    )  # the peak


def test_a_value_that_is_not_finite_leaves_a_gap():
    page = page_of([{"step": step, "loss": None if step == 3 else float(step)} for step in range(6)])
    assert page.count("<polyline") == 2


def test_the_learning_rate_is_drawn_in_steps_on_a_logarithmic_scale():
    rates = [float(np.float32(0.1 if i < 6 else 0.001)) for i in range(1, 11)]
    page = page_of([{"step": 10 * (i + 1), "train/lr": rate} for i, rate in enumerate(rates)])
    points = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]*)"', page)[1].split()]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(points))
    assert "logarithmic" in page
    assert re.findall(r'text-anchor="end">([\d.]+)<', page)[:3] == ["0.001", "0.01", "0.1"]


def test_test_scores_share_a_chart_with_the_colours_of_conditions(tmp_path):
    curves = Curves(tmp_path, 0, About("run", "gaitset on walkers", {5: "step 5 (2026-01-01)"}))
    scores = {"NM": {"Rank-1": 90.0}, "BG": {"Rank-1": 80.0}, "mean": {"Rank-1": 85.0}}
    for step in (10, 20, 20):  # that of the last step comes twice where training goes on from it
        curves.add_scores(step, scores)
    assert len((tmp_path / LINES).read_text().splitlines()) == 2
    curves.write_page()
    page = (tmp_path / PAGE).read_text()
    assert page.count("<svg") == 1
    styles = looks(["NM", "BG"])
    drawn = re.findall(r'stroke="(#\w+)" stroke-width="2"', page)
    assert drawn == [styles["NM"].colour, styles["BG"].colour, OVERALL.colour]
    assert "NM 90 at step 10" in page
    assert "gaitset on walkers" in page
    assert "<title>restarted after step 5 (2026-01-01)</title>" in page


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0.2, 5.9, [0, 2, 4, 6]),
        (3.0, 3.0, [2.6, 2.8, 3.0, 3.2, 3.4]),
        (0.0, 60_000.0, [0, 20_000, 40_000, 60_000]),
    ],
)
def test_ticks_of_an_axis_are_round_and_enclose_its_values(low, high, marks):
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert len(found) >= 2
    assert found == marks


def test_a_run_without_a_report_says_so():
    assert "No step has been reported yet" in page_of([])
    assert "Training of &lt;run&gt;" in training_page(About("<run>"), []).decode()
