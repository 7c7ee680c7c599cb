import dataclasses
import hashlib
import json
import logging
import zipfile

import numpy as np
import pytest

from mcl_jax.errors import ConfigError, DataError, UserError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import get_protocol
from mcl_jax.evaluation.report import score
from mcl_jax.evaluation.rerank import Rerank
from mcl_jax.utils.digest import sealed

CASIA = ["nm-01", "nm-02", "nm-05", "bg-01", "cl-01"]
PNG = b"\x89PNG"
PICTURES = {"cmc.png", "heatmap.png", "roc.png", "det.png"}  # without silhouettes


def embedding_set_of(labels, points=None) -> EmbeddingSet:
    if points is None:
        points = np.random.default_rng(0).standard_normal((len(labels), 2, 3))
    return EmbeddingSet(
        np.asarray(points, np.float32), *(np.array(column) for column in zip(*labels, strict=True))
    )


def casia(subjects: int = 3, views=("000", "090", "180")) -> EmbeddingSet:
    return embedding_set_of([(f"{s:03d}", c, v) for s in range(subjects) for c in CASIA for v in views])


def grew(gallery: int = 10, probes: int = 2) -> EmbeddingSet:
    labels = [(f"{s:05d}", c, f"g{c}{s}") for s in range(1, gallery + 1) for c in ("01", "02")]
    points = [[[float(s)]] for s in range(1, gallery + 1) for _ in range(2)]
    labels += [("probe", "03", f"p{i}") for i in range(probes)]
    return embedding_set_of(labels, points + [[[i + 1.2]] for i in range(probes)])


def frames(i: int) -> np.ndarray:
    clip = np.zeros((3, 64, 44), np.uint8)
    clip[:, 10:60, 10 + i % 20 : 24 + i % 20] = 255
    return clip


def no_constants(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def test_casiab_report_has_numbers_table_and_pictures(tmp_path):
    report = score(casia(), "casiab")
    report.write(tmp_path / "out", silhouettes=frames)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"metrics.json", "table.txt", "report.html", *PICTURES, "retrieval.png"}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == sealed(report.metrics)
    for name in (*PICTURES, "retrieval.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(PNG)
    scores = report.scores
    mean = np.mean([scores[group]["Rank-1"] for group in ("NM", "BG", "CL")])
    assert scores["mean"]["Rank-1"] == pytest.approx(mean)
    metrics = report.metrics
    assert (metrics["views"], metrics["metric"], metrics["rerank"]) == (["000", "090", "180"], "euc", None)
    assert metrics["counts"]["probes"] == {"NM": 9, "BG": 9, "CL": 9}
    assert np.array(metrics["cells"]["NM"]["Rank-1"]).shape == (3, 3)
    assert metrics["scores"] is scores


def test_table_reads_as_in_papers(tmp_path):
    labels = [(f"{s:03d}", c, v) for s in range(2) for c in CASIA for v in ("000", "090")]
    points = [[[float(s)]] for s, _, _ in labels]
    report = score(embedding_set_of(labels, points), "casiab")
    report.write(tmp_path)
    assert (tmp_path / "table.txt").read_text() == report.table
    assert str(report) == repr(report) == report.table.rstrip("\n")
    assert report.table == (
        "CASIA-B, gallery of one view, identical view left out\n"
        "              NM      BG      CL    mean\n"
        "Rank-1    100.00  100.00  100.00  100.00\n"
        "\n"
        "Rank-1 per probe view\n"
        "             000     090    mean\n"
        "NM        100.00  100.00  100.00\n"
        "BG        100.00  100.00  100.00\n"
        "CL        100.00  100.00  100.00\n"
    )


def test_gait3d_table_has_its_columns(tmp_path):
    labels = [(f"{s:04d}", f"camid{i}_videoid0", "seq0") for s in range(4) for i in range(3)]
    embedding_set = embedding_set_of(labels)
    report = score(embedding_set, "gait3d", probe_set=embedding_set.keys()[::3], metric="cos")
    report.write(tmp_path)
    heading = report.table.splitlines()[1].split()
    assert heading == ["Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.json", "table.txt", "report.html", *PICTURES} - {"heatmap.png"}


NAMES = [r"$\frac$", "$x^$", "a$b", r"\$", "$$", "_$^$", "a,b", "<b>", "\x1b[2J", "%s {0}"]


@pytest.mark.parametrize("kind", ["subjects", "views"])
def test_subjects_and_views_of_any_name_have_a_report(tmp_path, kind):
    subjects, views = (len(NAMES), ["000", "090"]) if kind == "subjects" else (2, NAMES)
    embeddings = casia(subjects, views)
    if kind == "subjects":
        embeddings = dataclasses.replace(
            embeddings, subjects=np.array(NAMES)[embeddings.subjects.astype(int)]
        )
    report = score(embeddings, "casiab")
    report.write(tmp_path, silhouettes=frames)
    assert json.loads((tmp_path / "metrics.json").read_text())["views"] == sorted(views)
    assert (tmp_path / "retrieval.png").exists()


def test_single_view_is_null_in_json_and_na_in_the_table(tmp_path):
    report = score(casia(views=["cam0"]), "casiab")
    report.write(tmp_path, silhouettes=frames)
    saved = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=no_constants)
    assert saved["scores"]["NM"]["Rank-1"] is None
    assert saved["cells"]["NM"]["Rank-1"][0][0] is not None
    assert np.isnan(report.scores["mean"]["Rank-1"])
    assert "Rank-1       n/a     n/a     n/a     n/a" in report.table
    assert not (tmp_path / "retrieval.png").exists()


def test_sheet_is_skipped_without_silhouettes(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="absl")
    score(casia(), "casiab_cross_view").write(tmp_path)
    assert "no retrieval.png: no silhouettes were given" in caplog.text
    assert not (tmp_path / "retrieval.png").exists()


def test_the_sheet_is_deterministic_and_excludes_the_probes_view(tmp_path):
    embedding_set = casia(subjects=8)
    asked: list[list[int]] = []
    for name in ("a", "b"):
        asked.append([])
        report = score(embedding_set, "casiab")
        report.write(tmp_path / name, silhouettes=lambda i: asked[-1].append(i) or frames(i))
        assert all(isinstance(i, int) for i in asked[-1])
    assert asked[0] == asked[1]
    for start in range(0, 6 * 6, 6):  # six rows; what is asked after them is for the page
        probe, *nearest = asked[0][start : start + 6]
        assert embedding_set.views[probe] not in embedding_set.views[nearest]
        assert set(embedding_set.conditions[nearest]) <= {"nm-01", "nm-02"}
    assert (tmp_path / "a" / "retrieval.png").read_bytes() == (tmp_path / "b" / "retrieval.png").read_bytes()


def test_submission_lists_the_nearest_subjects(tmp_path):
    report = score(grew(), "grew_submission")
    report.write(tmp_path)
    lines = (tmp_path / "submission.csv").read_bytes().decode().split("\n")
    assert lines[0] == "videoId," + ",".join(f"rank{i}" for i in range(1, 21))
    # p0 at 1.2 between subjects 1 and 2, two sequences each.
    assert lines[1] == "p0,1,1,2,2,3,3,4,4,5,5,6,6,7,7,8,8,9,9,10,10"
    assert lines[2] == "p1,2,2,3,3,1,1,4,4,5,5,6,6,7,7,8,8,9,9,10,10"
    assert lines[3:] == [""]
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.namelist() == ["submission.csv"]
        assert archive.read("submission.csv") == (tmp_path / "submission.csv").read_bytes()
    lines = (tmp_path / "submission.sha256").read_text().splitlines()
    assert [line.split("  ") for line in lines] == [
        [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest(), name]
        for name in ("submission.csv", "submission.zip")
    ]
    assert (tmp_path / "table.txt").read_text() == report.table
    assert json.loads((tmp_path / "metrics.json").read_text()) == sealed(report.metrics)
    assert report.metrics["counts"]["gallery"] == 20
    assert "scores" not in report.metrics
    assert report.scores == {}


def test_submission_equals_the_reference(shared_parity, tmp_path):
    with np.load(shared_parity / "evaluation.npz") as truth:
        keys = ("embeddings", "subjects", "conditions", "views")
        embedding_set = EmbeddingSet(*(truth[f"grew/{key}"] for key in keys))
        expected = str(truth["grew/submission_csv"])
    score(embedding_set, "grew_submission").write(tmp_path)
    assert (tmp_path / "submission.csv").read_bytes() == expected.encode()


def test_submission_needs_a_gallery_and_numbers():
    with pytest.raises(DataError, match="the gallery has 18 sequences, and the submission needs 20 ranks"):
        score(grew(gallery=9), "grew_submission")
    embedding_set = grew()
    names = np.where(embedding_set.subjects == "00003", "3b", embedding_set.subjects)
    with pytest.raises(DataError, match="gallery subject '3b' is not a number"):
        score(dataclasses.replace(embedding_set, subjects=names), "grew_submission")


def test_rerank_is_applied_and_written_down():
    rng = np.random.default_rng(1)
    labels = [(f"{s:02d}", c, f"v{s}") for s in range(30) for c in ("01", "02")]
    base = rng.standard_normal((30, 1, 4)).repeat(2, axis=0)
    embedding_set = embedding_set_of(labels, base + 0.6 * rng.standard_normal(base.shape))
    plain = score(embedding_set, "grew_local")
    reranked = score(embedding_set, "grew_local", rerank=Rerank(4, 2, 0.3))
    assert reranked.metrics["rerank"] == {"k1": 4, "k2": 2, "lam": 0.3}
    assert reranked.scores != plain.scores


def test_files_of_an_earlier_report_do_not_stay(tmp_path):
    score(grew(), "grew_submission").write(tmp_path)
    (tmp_path / "notes.txt").write_text("the user's own")
    score(casia(), "casiab").write(tmp_path)
    written = {"metrics.json", "table.txt", "report.html", *PICTURES}
    assert {path.name for path in tmp_path.iterdir()} == written | {"notes.txt"}


def test_a_sequence_that_cannot_be_drawn_leaves_no_metrics(tmp_path):
    def damaged(i: int) -> np.ndarray:
        raise DataError(f"sequence {i}: damaged")

    report = score(casia(), "casiab")
    report.write(tmp_path)
    with pytest.raises(DataError, match="damaged"):
        report.write(tmp_path, silhouettes=damaged)
    assert {path.name for path in tmp_path.iterdir()} == PICTURES


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out/metrics.json: cannot be removed: Not a directory"):
        score(grew(), "grew_submission").write(tmp_path / "out")


def test_a_protocol_of_other_figures_has_its_pictures(tmp_path):
    protocol = dataclasses.replace(get_protocol("casiab"), figures=("Rank-5", "mAP"))
    report = score(casia(), protocol)
    report.write(tmp_path)
    assert report.scores["NM"].keys() == {"Rank-5", "mAP"}
    assert (tmp_path / "heatmap.png").is_file()


def test_unknown_names_are_refused_with_a_list_of_known_ones():
    with pytest.raises(ConfigError, match="metric: 'l1' is unknown: choose one of euc, cos"):
        score(casia(), "casiab", metric="l1")
    with pytest.raises(ConfigError, match="protocol: 'casia' is unknown: choose one of casiab, .*oumvlp"):
        score(casia(), "casia")


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_equal_embeddings_are_refused(noise):
    whole = casia()
    points = 3 + noise * np.random.default_rng(0).standard_normal(whole.embeddings.shape)
    collapsed = dataclasses.replace(whole, embeddings=points.astype(np.float32))
    with pytest.raises(DataError, match=r"all 45 are equal .*the model has collapsed: train again"):
        score(collapsed, "casiab")


def test_a_gallery_of_one_person_is_warned_about(caplog):
    report = score(casia(subjects=1), "casiab")
    assert report.scores["NM"]["Rank-1"] == 100
    assert "the gallery has one person, '000': every probe is taken for this person" in caplog.text


def test_a_notebook_shows_the_figures_as_a_table():
    report = score(casia(), "casiab")
    report.note("a < b")
    shown = report._repr_html_()
    cells = "".join(f"<td>{figures['Rank-1']:.2f}</td>" for figures in report.scores.values())
    assert f"<tr><th>Rank-1</th>{cells}</tr>" in shown
    assert shown.endswith("<p>a &lt; b</p>")
    assert score(grew(), "grew_submission")._repr_html_().startswith("<pre>")
