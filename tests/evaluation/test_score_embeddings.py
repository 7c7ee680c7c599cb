import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.cli.program import run_command
from mcl_jax.evaluation.embeddings import EmbeddingSet

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "score_embeddings.py"


def main(arguments: list[str]) -> int:
    return run_command("score", arguments)


@pytest.fixture
def embeddings(tmp_path) -> Path:
    labels = [(f"{s:04d}", f"camid{i}_videoid0", "seq0") for s in range(4) for i in range(3)]
    x = np.random.default_rng(0).standard_normal((len(labels), 2, 3), np.float32)
    embedding_set = EmbeddingSet(x, *(np.array(column) for column in zip(*labels, strict=True)))
    embedding_set.save(tmp_path / "e.npz")
    (tmp_path / "partition.json").write_text(json.dumps({"PROBE_SET": embedding_set.keys()[::3]}))
    return tmp_path / "e.npz"


def test_prints_the_table_and_writes_the_report(embeddings, tmp_path, capsys):
    arguments = ["--embeddings", str(embeddings), "--protocol", "gait3d", "--out", str(tmp_path / "out")]
    arguments += ["--partition", str(tmp_path / "partition.json"), "--metric", "cos"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "table.txt").read_text()
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (report["metric"], report["rerank"]) == ("cos", None)
    scored = {"file": str(embeddings), "digest": EmbeddingSet.load(embeddings).digest}
    assert report["embeddings"] == scored
    assert f"embeddings  {embeddings}, digest {scored['digest'][:12]}" in report["table"]
    assert main([*arguments, "--rerank"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["rerank"]["k1"] == 20
    assert main([*arguments, "--rerank", "3,2,0.5"]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["rerank"] == {
        "k1": 3,
        "k2": 2,
        "lam": 0.5,
    }


def test_a_partition_may_list_the_gallery_alone(embeddings, tmp_path):
    keys = EmbeddingSet.load(embeddings).keys()
    (tmp_path / "gallery.json").write_text(json.dumps({"GALLERY_SET": keys[::3]}))
    arguments = ["--embeddings", str(embeddings), "--protocol", "ccgr_mini", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--partition", str(tmp_path / "gallery.json")]) == 0
    counts = json.loads((tmp_path / "out" / "metrics.json").read_text())["counts"]
    assert (counts["gallery"], counts["probes"]) == (4, {"all": 8})


def test_the_submission_of_hid_is_reranked_by_its_own_parameters(tmp_path):
    labels = [(s, "default", f"v{i}") for s in ("00001", "00002", "probe") for i in range(4)]
    x = np.random.default_rng(0).standard_normal((len(labels), 2, 3), np.float32)
    EmbeddingSet(x, *(np.array(column) for column in zip(*labels, strict=True))).save(tmp_path / "e.npz")
    arguments = ["--embeddings", str(tmp_path / "e.npz"), "--protocol", "hid_submission", "--rerank"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    rerank = json.loads((tmp_path / "out" / "metrics.json").read_text())["rerank"]
    assert rerank == {"k1": 6, "k2": 6, "lam": 0.3}
    header, *lines = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    assert (header, [line.split(",")[0] for line in lines]) == ("videoID,label", ["v0", "v1", "v2", "v3"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--protocol", "gait3d"], "probe set is missing"),
        (["--protocol", "casiab"], "found conditions camid0_videoid0"),
        (["--protocol", "casiab"], "e.npz: protocol casiab"),
        (["--protocol", "casiab", "--rerank", "3"], "is not k1,k2,lambda"),
        (["--protocol", "casiab", "--rerank="], "is not k1,k2,lambda"),
        (["--protocol", "casiab", "--embeddings", "none.npz"], "none.npz: no such file"),
    ],
)
def test_mistake_is_one_line_and_exit_code_1(embeddings, tmp_path, capsys, extra, message):
    assert main(["--embeddings", str(embeddings), "--out", str(tmp_path / "out"), *extra]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_embeddings_that_do_not_fit_leave_no_earlier_report(embeddings, tmp_path):
    arguments = ["--embeddings", str(embeddings), "--partition", str(tmp_path / "partition.json")]
    arguments += ["--out", str(tmp_path / "out")]
    assert main([*arguments, "--protocol", "gait3d"]) == 0
    assert main([*arguments, "--protocol", "casiab"]) == 1
    assert not any((tmp_path / "out").iterdir())


def test_script_ends_with_the_exit_code_of_the_mistake(tmp_path):
    arguments = ["--embeddings", str(tmp_path / "none.npz"), "--protocol", "casiab", "--out", str(tmp_path)]
    ended = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        ended.stderr
        == f"error: {tmp_path}/none.npz: no such file: write it with EmbeddingSet.save or give another path\n"
    )
