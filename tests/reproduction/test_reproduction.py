"""Reproducing a published run: dataset, embeddings in parts, verdict, record and page."""

import dataclasses
import json
import math
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_runs import partition_of, toy_config

from mcl_jax.build import build_dataset, build_embedder
from mcl_jax.cli.program import run
from mcl_jax.data.datasets import DATASETS, OpenDataset
from mcl_jax.data.sequences import Partition, SequenceRef
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluation.submission import submission_digests
from mcl_jax.hub.published import PUBLISHED, RUNS, Published
from mcl_jax.hub.reference import HubFile
from mcl_jax.reproduction.dataset_facts import FACTS, DatasetFacts, compare_dataset, describe_frames
from mcl_jax.reproduction.embedding_parts import embed_in_parts
from mcl_jax.reproduction.page import page
from mcl_jax.reproduction.record import read_record, write_record
from mcl_jax.reproduction.reproduce import task_of
from mcl_jax.reproduction.verdict import Row, compare, table, usual_reasons, verdict
from mcl_jax.weights.load import fit, load_weights

ROOT = Path(__file__).resolve().parents[2]


class Lists:
    """A dataset of names alone."""

    def read(self, sequence):
        raise DataError(f"{sequence.key}: has no pixels")


def named(dataset: str, names, partition: Partition | None = None) -> OpenDataset:
    sequences = tuple(sorted(SequenceRef(*name, location="") for name in names))
    return OpenDataset(dataset, sequences, partition or DATASETS[dataset].partition, Lists())


def casiab(people=range(1, 125)):
    facts = FACTS["casiab"]
    return [(f"{i:03d}", c, v) for i in people for c in facts.conditions for v in facts.views]


class TestDataset:
    def test_as_published(self):
        findings = compare_dataset(named("casiab", casiab()), train=True)
        assert [str(finding) for finding in findings] == [
            "test people: 50, as published",
            "test sequences: 5,500, as published",
            "training people: 74, as published",
            "training sequences: 8,140, as published",
            "conditions: 10, as published",
            "views: 11, as published",
        ]
        assert not any(finding.differs for finding in findings)

    def test_missing_and_extra_sequences_are_listed(self):
        gone = ("080", "nm-05", "036")
        names = [name for name in casiab(range(75, 124)) if name != gone] + [("075", "xx-01", "000")]
        told = [str(finding) for finding in compare_dataset(named("casiab", names), train=False)]
        assert told == [
            "test people: 49 of 50: 1 missing",
            "test sequences: 5,390 of 5,500: 110 missing; such as 080/nm-05/036",
            "conditions: 11 of 10: 1 too many; not published: xx-01",
            "views: 11, as published",
        ]

    def test_another_dataset_is_refused(self):
        names = [("075", "00", "015"), ("076", "01", "015")]
        with pytest.raises(DataError, match="is not casiab: its conditions are 00, 01, but"):
            compare_dataset(named("casiab", names), train=False)

    def test_probes_of_a_partition(self):
        partition = Partition(("0001",), ("0002",), ("0002-c1-s1", "0002-c2-s1"))
        names = [("0002", "c1", "s1"), ("0002", "c3", "s1")]
        told = [str(finding) for finding in compare_dataset(named("gait3d", names, partition), train=False)]
        assert "probes: 1 of 1,000: 999 missing" in told

    def test_a_dataset_of_which_nothing_is_published(self, people):
        dataset = build_dataset(toy_config(people))
        told = [str(finding) for finding in compare_dataset(dataset, train=False)]
        assert told[0] == "test people: 3; no number is published"
        assert describe_frames(dataset.test_split()) == "64×64, 5 to 7 per sequence, in 24 sampled"


class TestParts:
    @pytest.fixture
    def model(self, toy_run, people):
        config = toy_config(people)
        weights = load_weights(toy_run)
        embedder = build_embedder(config, weights.block)
        return config, embedder, fit(weights, embedder.model, *embedder.model.shapes())

    def test_an_interrupted_embedding_continues(self, model, tmp_path):
        config, embedder, arrays = model
        split = build_dataset(config).test_split()
        read = []

        class Source:
            left = 15

            def read(self, sequence):
                if not self.left:
                    raise DataError("the power is gone")
                type(self).left -= 1
                read.append(sequence.key)
                return split.source.read(sequence)

        cut = dataclasses.replace(split, source=Source())

        def embedded(split, **others):
            others = {"digest": "d", "data": "of these pixels", "size": 10} | others
            return embed_in_parts(config, embedder, arrays, split, tmp_path, **others)

        with pytest.raises(DataError, match="the power is gone"):
            embedded(cut)
        assert len(list(tmp_path.glob("part-*.npz"))) == 1
        Source.left = -1
        read.clear()
        whole = embedded(cut)
        assert len(read) == len(split.sequences) - 10
        expected = embedder.embed_split(*arrays, split, workers=0)
        np.testing.assert_allclose(whole.embeddings, expected.embeddings, rtol=1e-5, atol=1e-6)
        assert whole.keys() == expected.keys()

        (tmp_path / "part-00001.npz").write_bytes(b"half of it")
        read.clear()
        np.testing.assert_array_equal(embedded(cut).embeddings, whole.embeddings)
        assert len(read) == 10
        with pytest.raises(ConfigError, match=r"embeddings of another test \(data\)"):
            embedded(cut, data="of other pixels")
        config.eval.max_frames = 3
        with pytest.raises(
            ConfigError, match=r"embeddings of another test \(max_frames\); give another folder"
        ):
            embedded(cut)

    def test_a_part_with_sequences_left_out_is_embedded_again(self, model, tmp_path):
        """They may have been repaired since."""
        config, embedder, arrays = model
        split = build_dataset(config).test_split()
        few = dataclasses.replace(split, sequences=split.sequences[:3])
        config.data.on_error = "skip"

        class Damaged:
            def read(self, sequence):
                if sequence == few.sequences[1]:
                    raise DataError("is damaged")
                return split.source.read(sequence)

        def embedded(split):
            return embed_in_parts(config, embedder, arrays, split, tmp_path, digest="d", data="of these")

        assert len(embedded(dataclasses.replace(few, source=Damaged()))) == 2
        assert len(embedded(few)) == 3


PRINTED = {"NM": {"Rank-1": 98.2}, "CL": {"Rank-1": 77.6}}


class TestVerdict:
    def scores(self, nm, cl):
        return {"NM": {"Rank-1": nm, "mAP": 1.0}, "CL": {"Rank-1": cl}, "mean": {"Rank-1": 0.0}}

    def test_figures_within_the_tolerance_are_reproduced(self):
        rows = compare(PRINTED, self.scores(98.5, 77.3))
        assert [row.agrees for row in rows] == [True, True]
        assert verdict(rows) == (
            True,
            "Reproduced: every figure is within 0.3 points of the published one.",
        )

    def test_figures_beyond_the_tolerance_are_not_reproduced(self):
        rows = compare(PRINTED, self.scores(98.51, 70.0))
        reproduced, sentence = verdict(rows)
        assert reproduced is False
        assert "2 of 2 figures differ" in sentence
        assert "CL Rank-1 is 7.60 below" in sentence
        assert table(rows).splitlines()[2] == "CL Rank-1       77.60       70.00       -7.60"

    def test_there_is_no_verdict_without_all_figures(self):
        assert verdict([])[0] is None
        rows = compare(PRINTED, {"NM": {"Rank-1": 98.2}})
        assert verdict(rows) == (None, "Not all published figures were measured here.")
        assert verdict([Row("all", "mAP", 1.0, None)])[0] is None
        without_probes = compare(PRINTED, {"NM": {"Rank-1": 98.2}, "CL": {"Rank-1": math.nan}})
        assert verdict(without_probes) == (None, "Not all published figures were measured here.")

    def test_the_usual_reasons(self):
        told = usual_reasons(
            ["views: 1 missing"], unreadable=2, partition=True, other_embedding=True, precision="float16"
        )
        assert [reason.split(":")[0] for reason in told] == [
            "the dataset is not as published",
            "2 sequences could not be read",
            "another preparation",
            "another split",
            "the other embedding",
            "float16",
        ]
        assert (
            len(usual_reasons([], unreadable=0, partition=False, other_embedding=False, precision="float32"))
            == 1
        )


class TestTask:
    def test_a_task_uses_published_weights_or_trains(self):
        assert task_of("gait3d_mcl", model="", training=False).source == "gait3d_mcl"
        assert task_of("gait3d_mcl", model="F.pt", training=False).source == "F.pt"
        assert task_of("gait3d_mcl", model="", training=True).source == ""
        assert task_of("casiab_gaitset", model="", training=True).figures["NM"] == {"Rank-1": 95.8}
        assert not RUNS.keys() & PUBLISHED.keys()

    @pytest.mark.parametrize(
        ("name", "flags", "told"),
        [
            ("gait3dmcl", [], "no run 'gait3dmcl' is published; the nearest names: gait3d_mcl"),
            (
                "casiab_gaitset",
                [],
                "no published checkpoint of this run is known; train one with --train, or give one",
            ),
            ("casiab_mcl", ["--train", "--model=F.pt"], "--train and --model: give only one of them"),
            (
                "casiab_mcl",
                ["--config.train.steps=3"],
                "train.steps: changing it would not reproduce the published",
            ),
            ("casiab_mcl", ["--config.eval.metric=cos"], "eval.metric: changing it would not reproduce"),
            ("casiab_mcl", [], "nowhere"),
        ],
    )
    def test_mistakes_are_one_line(self, name, flags, told, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert run(["reproduce", name, "--root=nowhere", *flags]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert re.search(told, lines[0])
        assert not any(tmp_path.iterdir())


def published(monkeypatch, hub, checkpoint, figures, *, recipe="walkers_mcl", dataset="walkers") -> None:
    entry = Published(recipe, dataset, HubFile("owner/repo", "toy.pt"), figures)
    monkeypatch.setitem(PUBLISHED, "toy", entry)
    hub.files["owner/repo/toy.pt"] = checkpoint


def test_one_command_reproduces_a_run(hub, checkpoint, toy_run, people, tmp_path, monkeypatch, capsys):
    """With the weights and the data of a run here, whose figures stand for the published ones."""
    scores = json.loads((toy_run / "test" / "metrics.json").read_text())["scores"]
    del scores["mean"]
    published(monkeypatch, hub, checkpoint, scores)
    monkeypatch.setitem(FACTS, "walkers", DatasetFacts(3, 4, conditions=("nm-01", "nm-05", "bg-01", "cl-01")))
    monkeypatch.chdir(tmp_path)
    line = ["reproduce", "toy", f"--root={people}", f"--partition={partition_of(people)}", "--out=R"]
    assert run([*line, "--config.data.workers=0"]) == 0
    told = capsys.readouterr().out
    assert "test people: 3 of 4: 1 missing" in told
    assert "Reproduced: every figure is within 0.3" in told
    record = read_record(Path("R/reproduction.json"))
    assert record["reproduced"] is True
    assert [row["difference"] for row in record["figures"]] == pytest.approx([0.0] * 3, abs=0.3)
    weights = record["weights"]
    assert (weights["source"], weights["published"], weights["step"]) == ("toy", True, 3)
    assert record["counts"]["unreadable"] == 0
    text = Path("R/reproduction.md").read_text()
    assert "| NM Rank-1 |" in text
    for name in (str(people), str(tmp_path)):
        assert name not in text
        assert name not in Path("R/reproduction.json").read_text()
    assert (tmp_path / "R" / "test" / "report.html").is_file()
    assert "toy" in page([record])


@pytest.mark.slow
def test_a_second_run_needs_no_network_and_lists_reasons_for_differences(
    hub, checkpoint, people, tmp_path, monkeypatch, capsys
):
    published(monkeypatch, hub, checkpoint, {"NM": {"Rank-1": 3.0}})
    monkeypatch.chdir(tmp_path)
    line = ["reproduce", "toy", f"--root={people}", f"--partition={partition_of(people)}", "--out=R"]
    assert run([*line, "--config.data.workers=0"]) == 0
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("mcl_jax.embed.Embedder.embed_split", None)  # all parts are there
    capsys.readouterr()
    assert run([*line, "--config.data.workers=0"]) == 0
    told = capsys.readouterr().out
    assert "Not reproduced: 1 of 1 figure differs by more than 0.3" in told
    assert "usual reason: another preparation" in told
    assert "usual reason: another split" in told


@pytest.mark.slow
def test_grew_writes_the_submission(hub, checkpoint, people, tmp_path, monkeypatch, capsys):
    published(monkeypatch, hub, checkpoint, {"all": {"Rank-1": 61.2}}, recipe="grew_mcl", dataset="grew")
    monkeypatch.chdir(tmp_path)
    walk = people / "004" / "nm-01" / "090" / "090.pkl"
    for person in range(1, 13):
        for condition in ("01", "02"):
            folder = tmp_path / "GREW" / f"{person:05d}" / condition / f"v{person}{condition}"
            folder.mkdir(parents=True)
            source = people / f"{4 + person % 3:03d}" / ("nm-01", "cl-01")[condition == "02"] / "036"
            shutil.copy(next(source.glob("*.pkl")), folder / "a.pkl")
    folder = tmp_path / "GREW" / "probe" / "03" / "etaGVnWf"
    folder.mkdir(parents=True)
    shutil.copy(walk, folder / "a.pkl")
    assert run(["reproduce", "toy", "--root=GREW", "--out=R", "--config.data.workers=0"]) == 0
    told = capsys.readouterr().out
    assert "test people: 13 of 6,001: 5,988 missing" in told
    assert "Only the benchmark can score it: upload test/submission.zip" in told
    csv = (tmp_path / "R" / "test" / "submission.csv").read_bytes()
    assert csv.startswith(b"videoId,rank1,")
    content = {
        name: (tmp_path / "R" / "test" / name).read_bytes() for name in ("submission.csv", "submission.zip")
    }
    assert (tmp_path / "R" / "test" / "submission.sha256").read_text() == submission_digests(content)
    assert read_record(Path("R/reproduction.json"))["figures"][0]["measured"] is None


RECIPE = """
from mcl_jax.config import load_config

def get_config():
    config = load_config("walkers_mcl")
    config.update_from_flattened_dict({overrides!r})
    return config
"""


@pytest.mark.slow
def test_a_reproduction_can_train_first(hub, checkpoint, people, tmp_path, monkeypatch, capsys):
    from toy_runs import toy_overrides

    overrides = toy_overrides(people)
    del overrides["data.root"], overrides["data.partition"], overrides["data.workers"]
    (tmp_path / "toy.py").write_text(RECIPE.format(overrides=overrides))
    published(monkeypatch, hub, checkpoint, {"NM": {"Rank-1": 50.0}}, recipe=str(tmp_path / "toy.py"))
    monkeypatch.chdir(tmp_path)
    line = ["reproduce", "toy", f"--root={people}", f"--partition={partition_of(people)}", "--train"]
    assert run([*line, "--config.data.workers=0", "--config.train.log_every=1"]) == 0
    assert "training people: 3" in capsys.readouterr().out
    record = read_record(Path("reproductions/toy/reproduction.json"))
    assert record["weights"]["trained_here"] is True
    assert record["weights"]["step"] == 3
    assert not hub.asked


RECORD = {
    "name": "casiab_mcl",
    "reproduced": True,
    "verdict": "Reproduced.",
    "reasons": [],
    "figures": [
        {"group": "NM", "figure": "Rank-1", "published": 98.2, "measured": 98.1, "difference": -0.1},
        {"group": "CL", "figure": "Rank-1", "published": 77.6, "measured": None, "difference": None},
    ],
    "protocol": "casiab",
    "metric": "euc",
    "counts": {"sequences": 5500},
    "dataset": {"name": "casiab", "findings": ["views: 11, as published"], "frames": "64×64"},
    "weights": {
        **{"source": "casiab_mcl", "file_sha256": "", "digest": "d", "model": "gaitbase", "step": 60000},
        "trained_here": False,
        "published": True,
    },
    "settings": {"precision": "float32"},
    "versions": {"mcl_jax": "0.1.0"},
    "device": [1, "cpu", "x86_64"],
    "date": "2030-01-01",
    "seconds": 10,
}


def test_a_record_is_read_back_and_damage_is_detected(tmp_path):
    write_record(tmp_path, RECORD)
    path = tmp_path / "reproduction.json"
    assert read_record(path)["figures"] == RECORD["figures"]
    assert "| NM Rank-1 | 98.2 | 98.10 | -0.10 |" in (tmp_path / "reproduction.md").read_text()
    path.write_text(path.read_text().replace("98.1", "99.1"))
    with pytest.raises(DataError, match="damaged or changed"):
        read_record(path)
    for content in ("{}", "[1]", "no JSON", '{"format": 1, "name": 3}'):
        path.write_text(content)
        with pytest.raises(DataError, match=r"reproduction\.json: is not a record of a reproduction"):
            read_record(path)


def test_the_page_is_made_from_the_records():
    text = page([RECORD])
    assert (
        "| casiab_mcl | NM Rank-1 | 98.20 | 98.10 | -0.10 | published | 1 × cpu | 0.1.0 | 2030-01-01 |"
        in text
    )
    assert "There is no record yet" not in text
    own = {key: value for key, value in RECORD["weights"].items() if key != "published"}
    assert "| other weights |" in page([RECORD | {"weights": own}])
    hostile = page([{**RECORD, "name": "a|b\n# c <script>"}])
    assert "<script" not in hostile
    assert "\n# c" not in hostile
    assert "There is no record yet" in page([])


def test_the_documentation_page_matches_its_records():
    made = runpy.run_path(str(ROOT / "scripts" / "reproductions.py"))["text"]()
    assert (ROOT / "docs" / "reproductions.md").read_text() == made
