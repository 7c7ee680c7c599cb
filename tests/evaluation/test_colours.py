import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mcl_jax.evaluation.colours import HEAT, INK, OVERALL, RIGHT, WRONG, contrast, heat, ink_on, looks
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.plots import draw_cmc, draw_det, draw_heatmaps, draw_roc
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.report import score

# Linear RGB as people see it who lack one kind of cone (Machado, Oliveira & Fernandes 2009, severity 1).
SIGHT = {
    "all": np.eye(3),
    "no red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "no blue": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def casia(subjects=3, conditions=("nm-01", "nm-05", "bg-01", "cl-01"), views=("000", "090", "180")):
    labels = list(itertools.product([f"{s:03d}" for s in range(subjects)], conditions, views))
    points = np.random.default_rng(0).standard_normal((len(labels), 2, 3)).astype(np.float32)
    return EmbeddingSet(points, *map(np.array, zip(*labels, strict=True)))


def lab(colour: str, sight) -> np.ndarray:
    """CIE L*a*b* of a colour, in which distances are about those that people see."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.array(sight) @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(linear, 0, 1) / [0.95, 1, 1.089], 0.008))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colour_blind_people_can_distinguish_conditions(sight):
    colours = [*(look.colour for look in looks(map(str, range(6))).values()), OVERALL.colour]
    pairs = itertools.combinations([lab(colour, SIGHT[sight]) for colour in colours], 2)
    assert min(np.linalg.norm(a - b) for a, b in pairs) > 25  # 2 is just seen side by side


def test_lines_and_text_are_dark_enough():
    for look in looks(map(str, range(24))).values():
        assert contrast(look.colour, "#ffffff") >= 3
    for share in np.linspace(0, 1, 50):
        assert contrast(ink_on(heat(share)), heat(share)) >= 4.5
    assert min(contrast(colour, "#ffffff") for colour in (INK, RIGHT, WRONG)) > 4.5


def test_no_two_of_twenty_four_conditions_look_alike():
    seen = {(look.colour, look.dash) for look in looks(map(str, range(24))).values()}
    assert len(seen) == 24


def test_the_darker_the_better_and_never_grey():
    steps = [lab(heat(share), SIGHT["all"]) for share in np.linspace(0, 1, 21)]
    assert all(a[0] > b[0] for a, b in itertools.pairwise(steps))
    assert min(np.hypot(*step[1:]) for step in steps) > 15
    assert (heat(0.0), heat(1.0)) == (HEAT[0], HEAT[-1])


def test_a_condition_has_one_colour_in_every_picture():
    report = score(casia(), "casiab")
    expected = {name: look.colour for name, look in looks(["NM", "BG", "CL"]).items()}
    figures = (
        draw_cmc(report.protocol, report.groups, 20),
        draw_roc(report.protocol, report.verification),
        draw_det(report.protocol, report.verification),
    )
    for figure in figures:
        found = {line.get_label().split(":")[0]: line.get_color() for line in figure.axes[0].lines}
        assert {name: found[name] for name in expected} == expected


def test_page_and_picture_of_views_have_one_scale(tmp_path):
    report = score(casia(), "casiab")
    report.write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    panel = draw_heatmaps(report.protocol, report.groups, report.metrics["views"], "gaitset").axes[0]
    image, values = panel.images[0], report.groups["NM"].cells["Rank-1"]
    for i, j in np.argwhere(~np.eye(3, dtype=bool)):
        cell = f"NM, probe {report.metrics['views'][i]}, gallery {report.metrics['views'][j]}: "
        colour = page.split(f'title="{cell}')[1].split("background:")[1][:7]
        drawn = to_hex(image.cmap(image.norm(values[i, j])))
        assert np.linalg.norm(lab(colour, SIGHT["all"]) - lab(drawn, SIGHT["all"])) < 2
    assert image.get_array().mask.tolist() == np.eye(3, dtype=bool).tolist()
    assert len(panel.patches) == 3  # striped, not grey
    assert page.count('class="out"') == 3 * 3 + 1


def test_long_names_of_many_conditions_have_room(tmp_path):
    groups = {f"walking in the corridor with a heavy coat number {i}": (f"bg-{i}",) for i in range(12)}
    protocol = Protocol("mine", "People", ("nm",), groups, blocks="view_pair", leave_out="identical_view")
    names = ("nm", *(f"bg-{i}" for i in range(12)))
    embeddings = casia(
        subjects=2, conditions=names, views=[f"camera of the north entrance {i}" for i in (1, 2)]
    )
    report = score(embeddings, protocol)
    model = {"name": "gaitset", "step": 1, "digest": "0" * 64, "checkpoint": "runs/a"}
    embedding = {"parts": 1, "channels": 2, "precision": "float32", "max_frames": 720}
    report.add_origin(model=model | {"embedding": embedding})
    for figure in (draw_cmc(protocol, report.groups, 2), draw_roc(protocol, report.verification)):
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert max(len(label.split(":")[0]) for label in labels) <= 24
        assert len(set(labels)) == len(labels)
    assert len(draw_heatmaps(protocol, report.groups, report.metrics["views"]).axes) == 13
    report.write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<title>gaitset" in page
    assert '<span title="walking in the corridor with a heavy coat number 11">walking in t…' in page
    assert "Names in full" in page
