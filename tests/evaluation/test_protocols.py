import dataclasses
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcl_jax.evaluation
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.page.confusions import worst_first
from mcl_jax.evaluation.plots import draw_cmc, draw_heatmaps
from mcl_jax.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from mcl_jax.evaluation.report import score
from mcl_jax.evaluation.retrieval import sheet_rows
from mcl_jax.evaluation.roles import assign_roles, fits
from mcl_jax.evaluation.scoring import score_groups

CASIA = [f"{kind}-{i:02d}" for kind, count in (("nm", 6), ("bg", 2), ("cl", 2)) for i in range(1, count + 1)]


def embedding_set_of(labels, embeddings=None) -> EmbeddingSet:
    if embeddings is None:
        embeddings = np.random.default_rng(len(labels)).standard_normal((len(labels), 2, 3))
    return EmbeddingSet(
        np.asarray(embeddings, np.float32), *(np.array(column) for column in zip(*labels, strict=True))
    )


def grid(subjects: int, conditions, views):
    return [(f"{s:03d}", c, v) for s in range(subjects) for c in conditions for v in views]


def distance_matrix(embedding_set: EmbeddingSet) -> np.ndarray:
    x = embedding_set.embeddings.astype(np.float64)
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=3)).mean(axis=2)


def scores_of(name: str, embedding_set: EmbeddingSet, probe_set=None):
    matrix = distance_matrix(embedding_set)
    protocol = get_protocol(name)
    roles = assign_roles(protocol, embedding_set, probe_set)
    return score_groups(
        protocol, embedding_set, roles, lambda probes, gallery: matrix[np.ix_(probes, gallery)]
    )


def slow_casiab(embedding_set, probe_conditions, gallery_conditions):
    """The rules of the single-view evaluation as loops over sequences."""
    matrix = distance_matrix(embedding_set)
    sequences = list(zip(embedding_set.subjects, embedding_set.conditions, embedding_set.views, strict=True))
    views = sorted(set(embedding_set.views))
    rows = []
    for probe_view in views:
        row = []
        for gallery_view in views:
            probes = [i for i, (_, c, v) in enumerate(sequences) if c in probe_conditions and v == probe_view]
            gallery = [
                i for i, (_, c, v) in enumerate(sequences) if c in gallery_conditions and v == gallery_view
            ]
            right = 0
            for i in probes:
                best = min(gallery, key=lambda j: matrix[i, j])
                right += sequences[best][0] == sequences[i][0]
            if probe_view != gallery_view:
                row.append(round(100 * right / len(probes), 2))
        rows.append(sum(row) / len(row))
    return sum(rows) / len(rows)


@pytest.mark.parametrize("views", [["000", "090"], ["000", "018", "090"]])
def test_casiab_equals_the_loops_on_any_subset_of_views(views):
    embedding_set = embedding_set_of(grid(5, CASIA, views))
    scores = scores_of("casiab", embedding_set)
    gallery = ["nm-01", "nm-02", "nm-03", "nm-04"]
    for group, probes in {
        "NM": ["nm-05", "nm-06"],
        "BG": ["bg-01", "bg-02"],
        "CL": ["cl-01", "cl-02"],
    }.items():
        assert scores[group].scores["Rank-1"] == pytest.approx(
            slow_casiab(embedding_set, probes, gallery), abs=1e-9
        )
        assert scores[group].cells["Rank-1"].shape == (len(views), len(views))
        assert scores[group].probes == 5 * 2 * len(views)


def test_oumvlp_equals_the_loops():
    embedding_set = embedding_set_of(grid(4, ["00", "01"], ["000", "090", "270"]))
    assert scores_of("oumvlp", embedding_set)["all"].scores["Rank-1"] == pytest.approx(
        slow_casiab(embedding_set, ["00"], ["01"])
    )


def test_oumvlp_has_the_14_views():
    views = PROTOCOLS["oumvlp"].views
    assert (len(views), views[0], views[6], views[7], views[13]) == (14, "000", "090", "180", "270")
    with pytest.raises(DataError, match="views 105 are not among 000, 015"):
        scores_of("oumvlp", embedding_set_of(grid(2, ["00", "01"], ["000", "105"])))


def test_oumvlp_counts_probes_of_missing_subjects_as_misses(caplog):
    labels = grid(2, ["00", "01"], ["000", "090"])
    labels.remove(("001", "01", "090"))
    points = [[[10.0 * int(subject)]] for subject, _, _ in labels]
    result = scores_of("oumvlp", embedding_set_of(labels, points))["all"]
    # Probes of 000 meet the gallery of 090, where subject 001 is missing: 50 %; the other way round 100 %.
    np.testing.assert_array_equal(result.cells["Rank-1"], [[100, 50], [100, 50]])
    assert result.scores["Rank-1"] == 75
    assert (result.unmatched, result.skipped) == (1, 0)
    assert "all: counted as misses: 1 ranking without a sequence of the probe's subject" in caplog.text


def test_cells_are_rounded_before_the_mean():
    # Three probes per view at 000 and 090: 2 of 3 right in one direction (66.67), 3 of 3 in the other.
    labels = grid(3, ["01", "00"], ["000", "090"])
    points = [[[10.0 * int(subject)]] for subject, _, _ in labels]
    points[labels.index(("001", "00", "000"))] = [[21.0]]
    result = scores_of("oumvlp", embedding_set_of(labels, points))["all"]
    assert result.scores["Rank-1"] == (66.67 + 100) / 2
    np.testing.assert_allclose(result.cmc[:2], [(200 / 3 + 100) / 2, 100])


def test_cross_view_leaves_out_own_view_of_the_same_subject_only():
    labels = [
        ("001", "nm-01", "000"),  # the probe, at 0
        ("001", "nm-02", "000"),  # its own view: hidden, though nearest
        ("001", "bg-02", "090"),  # second of the visible
        ("002", "nm-02", "000"),  # another subject in the same view: visible, nearest
        ("001", "cl-02", "180"),  # third
    ]
    scores = scores_of(
        "casiab_cross_view", embedding_set_of(labels, [[[0.0]], [[0.1]], [[2.0]], [[1.0]], [[3.0]]])
    )["NM"]
    assert scores.scores["Rank-1"] == 0
    assert scores.scores["mAP"] == 58.33  # (1/2 + 2/3) / 2, rounded
    np.testing.assert_allclose(scores.cmc[:3], [0, 100, 100])


def test_gait3d_by_hand_and_probes_without_match_are_skipped(caplog):
    labels = [
        (s, f"camid{i}_videoid0", "seq0") for s, count in (("a", 3), ("b", 2), ("c", 1)) for i in range(count)
    ]
    points = [[[0.0]], [[1.0]], [[9.0]], [[5.0]], [[6.5]], [[2.0]]]
    probe_set = [f"{s}-camid0_videoid0-seq0" for s in "abc"]
    result = scores_of("gait3d", embedding_set_of(labels, points), probe_set)["all"]
    # a at 0 sees a 1, b 6.5, a 9: AP (1 + 2/3)/2, INP 2/3. b at 5 sees b at 1.5: 1. c has no match.
    assert (result.probes, result.skipped, result.unmatched) == (3, 1, 0)
    assert "all: left out: 1 probe without a sequence of the same subject in the gallery" in caplog.text
    assert result.scores["Rank-1"] == 100
    assert result.scores["mAP"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1) / 2)
    assert result.scores["mINP"] == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_gait3d_counts_entries_without_sequence(caplog):
    embedding_set = embedding_set_of(grid(2, ["camid0_videoid0", "camid1_videoid0"], ["seq0"]))
    probe_set = ["000-camid0_videoid0-seq0", "999-camid0_videoid0-seq0"]
    assert assign_roles(get_protocol("gait3d"), embedding_set, probe_set).absent == 1
    assert "1 of 2 entries of PROBE_SET have no sequence" in caplog.text


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_perfect_embeddings_score_100(seed):
    rng = np.random.default_rng(seed)
    labels = grid(4, CASIA, ["000", "090"])
    points = [[[100.0 * int(subject)], [rng.random()]] for subject, _, _ in labels]
    for name in ("casiab", "casiab_cross_view"):
        for group in scores_of(name, embedding_set_of(labels, points)).values():
            assert set(group.scores.values()) == {100}


def test_order_of_sequences_is_irrelevant():
    embedding_set = embedding_set_of(grid(6, CASIA, ["000", "090"]))
    order = np.random.default_rng(0).permutation(len(embedding_set))
    shuffled = EmbeddingSet(
        embedding_set.embeddings[order],
        embedding_set.subjects[order],
        embedding_set.conditions[order],
        embedding_set.views[order],
    )
    for name in ("casiab", "casiab_cross_view"):
        for before, after in zip(
            scores_of(name, embedding_set).values(), scores_of(name, shuffled).values(), strict=True
        ):
            assert before.scores == after.scores


def test_tie_goes_to_the_first_of_the_gallery():
    labels = [("a", "01", "v1"), ("b", "01", "v2"), ("a", "02", "v3"), ("b", "02", "v4")]
    result = scores_of("grew_local", embedding_set_of(labels, np.zeros((4, 1, 1))))["all"]
    assert result.scores["Rank-1"] == 50  # subject a, whose gallery comes first
    assert result.scores["Rank-5"] == 100


@pytest.mark.parametrize("name", ["casiab", "casiab_cross_view"])
def test_single_view_is_not_available_and_says_why(name, caplog):
    groups = scores_of(name, embedding_set_of(grid(3, CASIA, ["cam0"])))
    assert all(np.isnan(value) for group in groups.values() for value in group.scores.values())
    assert "NM is n/a: the only view is cam0 and the identical view is left out" in caplog.text


def test_absent_group_is_not_available(caplog):
    groups = scores_of("casiab", embedding_set_of(grid(3, CASIA[:8], ["000", "090"])))
    assert np.isnan(groups["CL"].scores["Rank-1"])
    assert not np.isnan(groups["BG"].scores["Rank-1"])
    assert "CL is n/a: the embeddings have none of its probes" in caplog.text


def test_view_without_probes_is_left_out_of_the_mean(caplog):
    labels = [label for label in grid(3, CASIA, ["000", "090"]) if label[1:] != ("nm-05", "090")]
    labels = [label for label in labels if label[1:] != ("nm-06", "090")]
    result = scores_of("casiab", embedding_set_of(labels))["NM"]
    assert result.scores["Rank-1"] == result.cells["Rank-1"][0, 1]
    assert "casiab: NM: left out of the mean: 1 of 2 blocks, with nothing to rank" in caplog.text


def test_nothing_is_logged_for_whole_data(caplog):
    caplog.set_level(logging.INFO, logger="absl")
    scores_of("casiab", embedding_set_of(grid(2, CASIA, ["000", "090"])))
    assert caplog.text == ""


def test_unknown_conditions_are_listed_with_the_expected_ones():
    embedding_set = embedding_set_of(grid(2, ["gallery", "probe1"], ["cam0"]))
    with pytest.raises(
        DataError, match=r"no probe sequence: it expects NM: conditions nm-05, nm-06; BG.*gallery, probe1"
    ):
        scores_of("casiab", embedding_set)
    with pytest.raises(
        DataError, match="no probe sequence: it expects all: conditions 02; found conditions gallery"
    ):
        scores_of("grew_local", embedding_set)


def test_unknown_conditions_are_refused():
    labels = grid(2, ["nm-01", "nm-4", "nm-05", "bg-01", "cl-01"], ["000", "090"])
    with pytest.raises(DataError, match="conditions nm-4 are neither its probes nor its gallery"):
        scores_of("casiab", embedding_set_of(labels))


def test_a_missing_gallery_is_refused():
    embedding_set = embedding_set_of(grid(2, ["nm-05", "cl-01"], ["000", "090"]))
    with pytest.raises(
        DataError, match="no gallery sequence: it expects conditions nm-01, nm-02, nm-03, nm-04; found"
    ):
        scores_of("casiab", embedding_set)


def test_a_probe_without_a_gallery_sequence_is_refused():
    labels = [*grid(2, ["01", "02"], ["v"]), ("777", "02", "v")]
    with pytest.raises(
        DataError, match=r"subjects 777 have probes but no gallery sequence \(conditions 01\)"
    ):
        scores_of("grew_local", embedding_set_of(labels))


def test_a_missing_probe_set_is_refused():
    embedding_set = embedding_set_of(grid(2, ["c"], ["v"]))
    with pytest.raises(DataError, match="gait3d: the probe set is missing: give the partition JSON"):
        scores_of("gait3d", embedding_set)
    with pytest.raises(DataError, match="no probe sequence"):
        scores_of("gait3d", embedding_set, ["other-c-v"])
    with pytest.raises(DataError, match="no gallery sequence"):
        scores_of("gait3d", embedding_set, embedding_set.keys())


def test_an_unknown_protocol_is_refused():
    with pytest.raises(
        ConfigError,
        match="'casia' is unknown: choose one of casiab, casiab_cross_view, casiab_all_views, gait3d",
    ):
        get_protocol("casia")


def test_a_protocol_that_contradicts_itself_is_refused():
    with pytest.raises(ConfigError, match="identical_view needs blocks view_pair"):
        dataclasses.replace(PROTOCOLS["oumvlp"], blocks="probe_view")


def test_only_distances_need_jax_and_nothing_needs_flax():
    folder = Path(mcl_jax.evaluation.__file__).parent
    everything = {f"mcl_jax.evaluation.{path.stem}" for path in folder.glob("*.py")} - {
        "mcl_jax.evaluation.__init__"
    }
    with_distances = {f"mcl_jax.evaluation.{name}" for name in ("distances", "report", "command")}
    for modules, allowed in ((everything - with_distances, set()), (everything, {"jax"})):
        code = f"import sys, {', '.join(sorted(modules))}; print({{'jax', 'flax'}} & set(sys.modules))"
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        assert printed.strip() == str(allowed or set())


REFERENCE = [
    (name, folder, metric, group, figure, key)
    for metric in ("euc", "cos")
    for name, folder, group, figure, key in [
        *(("casiab", "casiab", g, "Rank-1", f"{metric}/single_view/{g}@R1") for g in ("NM", "BG", "CL")),
        *(
            (
                "casiab_cross_view",
                "casiab",
                g,
                figure,
                f"{metric}/cross_view/{g}-{figure.replace('k-', 'k@')}",
            )
            for g in ("NM", "BG", "CL")
            for figure in ("Rank-1", "mAP")
        ),
        *(
            ("gait3d", "gait3d", "all", figure, f"{metric}/{figure}")
            for figure in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")
        ),
    ]
]


MORE = {
    "oumvlp": ("oumvlp", {("all", "Rank-1"): "single_view/NM@R1"}),
    "oumvlp_cross_view": (
        "oumvlp",
        {("all", "Rank-1"): "cross_view/NM-Rank@1", ("all", "mAP"): "cross_view/NM-mAP"},
    ),
    "freegait": (
        "freegait",
        {("all", figure): figure for figure in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")},
    ),
    "casiae": ("casiae", {(group, "Rank-1"): f"{group}@R1" for group in ("NM", "BG", "CL")}),
    "ccpg_gait": ("ccpg", {(g, "Rank-1"): f"gait/{g}/exclude" for g in ("CL", "UP", "DN", "BG")}),
    "ccpg_reid": (
        "ccpg",
        {(g, f): f"reid/{g}/{f}" for g in ("CL", "UP", "DN", "BG") for f in ("Rank-1", "mAP", "mINP")},
    ),
    "sustech1k": (
        "sustech1k",
        {
            (group, f"Rank-{k}"): f"{name}@R{k}"
            for group, name in {
                **{"NM": "Normal", "BG": "Bag", "CL": "Clothing", "CR": "Carrying", "UB": "Umberalla"},
                **{"UF": "Uniform", "OC": "Occlusion", "NT": "Night", "all": "Overall"},
            }.items()
            for k in (1, 5)
        },
    ),
    "ccgr_mini": (
        "ccgr_mini",
        {("all", figure): figure for figure in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")},
    ),
}


@pytest.mark.parametrize("metric", ["euc", "cos"])
@pytest.mark.parametrize("name", MORE)
def test_more_figures_of_the_reference(shared_parity, name, metric):
    folder, figures = MORE[name]
    with np.load(shared_parity / "evaluation_more.npz") as truth:
        labels = ("embeddings", "subjects", "conditions", "views")
        embedding_set = EmbeddingSet(*(truth[f"{folder}/{key}"] for key in labels))
        expected = {place: float(truth[f"{folder}/{metric}/{key}"]) for place, key in figures.items()}
        names = (f"{folder}/probe_set", f"{folder}/gallery_set")
        lists = [truth[key].tolist() if key in truth else None for key in names]
    protocol, x = get_protocol(name), embedding_set.embeddings
    roles = assign_roles(protocol, embedding_set, *lists)
    groups = score_groups(
        protocol, embedding_set, roles, lambda p, g: pairwise_distances(x[p], x[g], metric=metric)
    )
    found = {(group, figure): groups[group].scores[figure] for group, figure in expected}
    # Some are float32 there; of near ties either may come first, which three printed decimals do not show.
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9 if protocol.decimals else 5e-4)


@pytest.mark.parametrize(("name", "folder", "metric"), sorted({case[:3] for case in REFERENCE}))
def test_figures_of_the_reference(shared_parity, name, folder, metric):
    with np.load(shared_parity / "evaluation.npz") as truth:
        embedding_set = EmbeddingSet(
            *(truth[f"{folder}/{key}"] for key in ("embeddings", "subjects", "conditions", "views"))
        )
        protocol = get_protocol(name)
        roles = assign_roles(protocol, embedding_set, truth["gait3d/probe_set"].tolist())
        x = embedding_set.embeddings
        groups = score_groups(
            protocol, embedding_set, roles, lambda p, g: pairwise_distances(x[p], x[g], metric=metric)
        )
        for _, _, _, group, figure, key in (case for case in REFERENCE if case[:3] == (name, folder, metric)):
            assert groups[group].scores[figure] == pytest.approx(float(truth[f"{folder}/{key}"]), abs=1e-9), (
                key
            )


def test_grew_local_figures_of_the_reference(shared_parity):
    with np.load(shared_parity / "evaluation.npz") as truth:
        embedding_set = EmbeddingSet(
            *(truth[f"grew/{key}"] for key in ("embeddings", "subjects", "conditions", "views"))
        )
        printed = truth["grew/real_scene_log"].tolist()
    scores = scores_of("grew_local", embedding_set)["all"].scores
    expected = dict(zip(printed[::2], printed[1::2], strict=True))
    assert {f"=={figure}==": f"{value:.3f}" for figure, value in scores.items()} == expected


def test_a_gallery_set_is_the_gallery(caplog):
    embedding_set = embedding_set_of(grid(3, ["a"], ["000", "090", "180"]))
    probes = [f"{s:03d}-a-000" for s in range(3)]
    gallery = [f"{s:03d}-a-090" for s in range(3)]
    protocol = get_protocol("gait3d")
    assert len(assign_roles(protocol, embedding_set, probes).gallery) == 6
    roles = assign_roles(protocol, embedding_set, probes, gallery)
    assert [embedding_set.keys()[i] for i in roles.gallery] == gallery
    assert not caplog.records
    assign_roles(protocol, embedding_set, probes, [*gallery, "000-a-90", "002-a-180"])
    assert (
        "1 of 5 entries of GALLERY_SET have no sequence: 000-a-90; '000-a-90' is written '000-a-090' there"
        in caplog.text
    )
    with pytest.raises(DataError, match="no gallery sequence"):
        assign_roles(protocol, embedding_set, probes, ["elsewhere-a-000"])
    assign_roles(get_protocol("leave_one_out"), embedding_set, None, gallery)
    assert "GALLERY_SET is not used: the protocol's gallery is conditions *" in caplog.text


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_cells_of_ccpg_are_those_of_the_reference(shared_parity, metric):
    with np.load(shared_parity / "evaluation_more.npz") as truth:
        labels = ("embeddings", "subjects", "conditions", "views")
        embedding_set = EmbeddingSet(*(truth[f"ccpg/{key}"] for key in labels))
        report = score(embedding_set, "ccpg_gait", metric=metric)
        assert report.metrics["views"] == truth["ccpg/camera_list"].tolist()
        for group, scores in report.groups.items():
            expected = truth[f"ccpg/{metric}/gait/{group}/matrix"]
            np.testing.assert_allclose(scores.cells["Rank-1"], expected, atol=1e-9)


# One person more than two outfits: camera 01 has two sequences of one walk. Places on a line, by hand.
CCPG = [
    ("1", "U0_D0", "01_0", 0.0),
    ("1", "U0_D0", "02", 1.0),
    ("1", "U1_D1", "01_0", 0.2),
    ("1", "U1_D1", "01_1", 0.4),
    ("1", "U2_D2", "02", 5.0),
    ("2", "U0_D0", "01", 10.0),
    ("2", "U1_D1", "02", 3.5),
    ("2", "U3_D3", "01", 9.0),
    ("2", "U0_D3", "02", 8.0),
]


def ccpg_set(rows=CCPG) -> EmbeddingSet:
    return embedding_set_of([row[:3] for row in rows], [[[row[3]]] for row in rows])


def test_each_group_of_ccpg_has_its_gallery_and_views_are_cameras(caplog):
    groups = scores_of("ccpg_gait", ccpg_set())
    # CL: the gallery of camera 01 is 0.2, 0.4 (1) and 9 (2); of camera 02 it is 5 (1) and 3.5 (2).
    # Probes of 01: 0 (1) and 10 (2); the one of 02 is 1 (1).
    np.testing.assert_array_equal(groups["CL"].cells["Rank-1"], [[100, 0], [100, 0]])
    assert groups["CL"].scores["Rank-1"] == (0 + 100) / 2
    assert groups["UP"].scores["Rank-1"] == 100  # 9 of camera 01 against 8 of camera 02, alone there
    assert np.isnan(groups["DN"].scores["Rank-1"])
    assert "ccpg_gait: DN is n/a: the embeddings have none of its probes" in caplog.text


def test_reidentification_of_ccpg_leaves_out_the_own_camera_of_the_same_subject():
    groups = scores_of("ccpg_reid", ccpg_set())
    # 0 (1, camera 01) sees 3.5 (2), 5 (1), 9 (2): AP 1/2. 1 (1, camera 02) sees 0.2, 0.4, 3.5, 9: AP 1.
    # 10 (2, camera 01) sees 5, 3.5, 0.4, 0.2: AP 1/2.
    cl = groups["CL"]
    assert cl.scores == pytest.approx({"Rank-1": 100 / 3, "mAP": 200 / 3, "mINP": 200 / 3})
    assert (cl.probes, cl.skipped) == (3, 0)


def test_a_group_with_probes_and_no_gallery_is_refused():
    rows = [row for row in CCPG if row[1] != "U0_D3"]
    with pytest.raises(DataError, match="no gallery sequence for UP: it expects conditions U0_D3; found"):
        scores_of("ccpg_gait", ccpg_set(rows))


def test_a_report_shows_the_nearest_of_the_groups_gallery():
    embedding_set = ccpg_set()
    protocol = get_protocol("ccpg_reid")
    roles = assign_roles(protocol, embedding_set)
    matrix = distance_matrix(embedding_set)
    rows = worst_first(protocol, embedding_set, roles, lambda a, b: matrix[np.ix_(a, b)])
    nearest = {(row.probe, row.group): row.nearest for row in rows}
    assert nearest[(7, "UP")] == (8,)
    assert nearest[(0, "CL")] == (6, 4, 7)
    for probe, seen, _ in sheet_rows(protocol, embedding_set, roles, lambda a, b: matrix[np.ix_(a, b)]):
        assert tuple(seen) in [found for (known, _), found in nearest.items() if known == probe]


def test_walks_of_sustech1k_are_in_several_groups_by_parts_of_their_conditions():
    places = {
        ("1", "00-nm", "000"): 0.0,
        ("2", "00-nm-oc", "000"): 9.0,
        ("1", "00-nm", "090"): 1.0,
        ("2", "00-nm-oc", "090"): 8.0,
        ("1", "01-nm", "000"): 7.0,  # nearer to the other person
        ("2", "04-bg-oc", "000"): 9.5,
        ("1", "02-cl-nt", "090"): 0.5,
    }
    report = score(embedding_set_of(list(places), [[[x]] for x in places.values()]), "sustech1k")
    rank1 = {group: scores["Rank-1"] for group, scores in report.scores.items()}
    assert {g: v for g, v in rank1.items() if not np.isnan(v)} == {
        "NM": 0,
        "BG": 100,
        "CL": 100,
        "OC": 100,  # the gallery's own walks, too
        "NT": 100,
        "all": (50 + 100) / 2,  # of 000 one of two, of 090 the only one
    }
    assert report.metrics["counts"]["probes"] | {"CR": 0} == {
        **{"NM": 1, "BG": 1, "CL": 1, "CR": 0, "UB": 0, "UF": 0, "OC": 3, "NT": 1},
        "all": 3,
    }
    assert "mean" not in report.scores
    assert "mean" not in report.table.splitlines()[1]
    lines = {
        line.get_label().split(":")[0] for line in draw_cmc(report.protocol, report.groups, 5).axes[0].lines
    }
    assert lines == {"NM", "BG", "CL", "OC", "NT", "all"}
    panels = draw_heatmaps(report.protocol, report.groups, ["000", "090"]).axes
    assert {axes.get_title().split("\n")[0] for axes in panels if axes.get_title()} == set(report.groups)
    # Each walk is looked up once for the pictures, whatever groups it is in.
    assert sorted(report.roles.rankings()[0].tolist()) == [1, 3, 4, 5, 6]
    with pytest.raises(DataError, match="conditions 05-x are neither"):
        score(embedding_set_of([*places, ("1", "05-x", "000")]), "sustech1k")


def test_the_partition_of_ccgr_mini_lists_the_gallery():
    embedding_set = embedding_set_of(grid(3, ["NM1", "CL1"], ["0_1.avi"]))
    protocol, gallery = get_protocol("ccgr_mini"), [f"{s:03d}-NM1-0_1.avi" for s in range(3)]
    roles = assign_roles(protocol, embedding_set, None, gallery)
    assert [embedding_set.keys()[i] for i in roles.gallery] == gallery
    assert {embedding_set.conditions[i] for i in roles.all_probes()} == {"CL1"}
    with pytest.raises(DataError, match=r"ccgr_mini: the gallery set is missing: .* whose GALLERY_SET lists"):
        assign_roles(protocol, embedding_set, ["000-CL1-0_1.avi"])
    with pytest.raises(DataError, match="no probe sequence: it expects all: every other sequence"):
        assign_roles(protocol, embedding_set, None, embedding_set.keys())


def test_freegait_does_not_read_the_gallery_set(caplog):
    embedding_set = embedding_set_of(grid(3, ["a"], ["000", "090", "180"]))
    probes = [f"{s:03d}-a-000" for s in range(3)]
    roles = assign_roles(get_protocol("freegait"), embedding_set, probes, ["000-a-090"])
    assert len(roles.gallery) == 6
    assert "GALLERY_SET is not used: the protocol's gallery is every other sequence" in caplog.text


def hid_set() -> EmbeddingSet:
    labels = [("00007", "00", "00"), ("probe", "00", "v2"), ("probe", "00", "v1"), ("00012", "00", "01")]
    return embedding_set_of(labels, [[[0.0]], [[3.0]], [[1.0]], [[4.0]]])


def test_the_submission_of_hid_has_subjects_as_they_are_written():
    report = score(hid_set(), "hid_submission")
    assert report.submission == "videoID,label\nv2,00012\nv1,00007\n"


def test_a_submission_whose_probes_have_one_name_is_refused():
    embedding_set = dataclasses.replace(
        hid_set(), conditions=np.array(["00", "a", "b", "00"]), views=np.full(4, "default")
    )
    with pytest.raises(DataError, match="2 probes have the view 'default', but the file identifies probes"):
        score(embedding_set, "hid_submission")


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_submissions_of_hid_are_those_of_the_reference_to_the_byte(shared_parity, metric):
    with np.load(shared_parity / "evaluation_more.npz") as truth:
        labels = ("embeddings", "subjects", "conditions", "views")
        embedding_set = EmbeddingSet(*(truth[f"hid/{key}"] for key in labels))
        plain = score(embedding_set, "hid_submission", metric=metric)
        assert plain.submission == truth[f"hid/{metric}/submission_csv_plain"].item()
        rerank = get_protocol("hid_submission").rerank
        reranked = score(embedding_set, "hid_submission", metric=metric, rerank=rerank)
        assert reranked.submission == truth[f"hid/{metric}/submission_csv"].item()


@pytest.mark.parametrize("metric", ["euc", "cos"])
@pytest.mark.parametrize(
    ("name", "gallery", "probes"),
    [
        ("0001-1000", "12", "3456"),
        ("HID2021", "0", "1"),
        ("0001-1000-test", "0", "1"),
        ("TTG-200", "1", "23456"),
    ],
)
def test_a_protocol_file_may_list_one_gallery(shared_parity, name, gallery, probes, metric):
    figures = ("Rank-1", "Rank-5", "Rank-10", "Rank-20")
    unused = tuple(set("0123456") - set(gallery + probes))
    protocol = Protocol(name, name, tuple(gallery), {"all": tuple(probes)}, figures=figures, unused=unused)
    protocol = dataclasses.replace(protocol, unmatched="wrong")
    with np.load(shared_parity / "evaluation_more.npz") as truth:
        labels = ("embeddings", "subjects", "conditions", "views")
        embedding_set = EmbeddingSet(*(truth[f"real_scene/{key}"] for key in labels))
        expected = {figure: float(truth[f"real_scene/{name}/{metric}/{figure}"]) for figure in figures}
    assert score(embedding_set, protocol, metric=metric).scores["all"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "fitting", "others"),
    [
        ("*bg*", ["bg", "01-bg", "bg-x", "0bg1"], ["b-g", ""]),
        ("01*", ["01", "01-nm"], ["001", "1"]),
        ("*nm", ["nm", "00-nm"], ["00-nm-oc"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("*a*b*", ["ab", "xaxbx"], ["ba"]),
        ("a[1].*", ["a[1].x"], ["a1x", "a1.x"]),
        ("*a" * 60 + "*b", ["a" * 60 + "b"], ["a" * 200, "a" * 59 + "b"]),  # at once
    ],
)
def test_a_star_stands_for_any_text(name, fitting, others):
    found = fits(np.array([*fitting, *others]), (name,))
    assert found.tolist() == [True] * len(fitting) + [False] * len(others)
