"""The program as users run it, with tiny synthetic people: train, resume, test, and common mistakes."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest
from preempted import AfterOneStep
from toy_runs import TOY_MODELS, flags, partition_of, run, run_quickly, toy_config, toy_config_of

import mcl_jax
from mcl_jax.build import build_embedder
from mcl_jax.config import load_config
from mcl_jax.convert.importer import export_state_dict
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.data.prepare.single_walk import read_walk
from mcl_jax.data.sequences import Split
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import CheckpointError, ConfigError, DataError
from mcl_jax.evaluate import test as evaluate_run
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.runtime.preemption import PreemptedError
from mcl_jax.train_loop import train
from mcl_jax.weights.load import load_weights


def final_arrays(workdir: Path) -> list[np.ndarray]:
    weights = load_weights(workdir)
    return jax.tree.leaves((weights.params, weights.batch_stats))


def assert_same(a: Path, b: Path) -> None:
    for x, y in zip(final_arrays(a), final_arrays(b), strict=True):
        assert np.array_equal(x, y)


def test_train_then_test_from_the_command_line(people, tmp_path):
    done = run(
        f"--workdir={tmp_path}", *flags(people), "--config.train.steps=3", "--config.train.test_every=2"
    )
    assert done.returncode == 0, done.stderr
    assert "step 3/3  loss" in done.stdout
    assert "seq/s" in done.stdout
    assert "NM      BG      CL    mean" in done.stdout
    assert "orbax" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoints",
        "tensorboard",
        "test",
        "test-2",
        "config_train.json",
        "curves.jsonl",
        "run.lock",
        "stretches.jsonl",
        "test.lock",
        "trained_on.json",
        "training.html",
    }
    written = {p.name for p in (tmp_path / "test").iterdir()}
    assert written == {
        "embeddings.npz",
        "metrics.json",
        "table.txt",
        "cmc.png",
        "heatmap.png",
        "roc.png",
        "det.png",
        "retrieval.png",
        "report.html",
    }

    embeddings = EmbeddingSet.load(tmp_path / "test" / "embeddings.npz")
    assert embeddings.embeddings.shape == (3 * 4 * 2, 16, 3)
    assert embeddings.keys() == sorted(embeddings.keys())
    metrics = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert 0 <= metrics["scores"]["NM"]["Rank-1"] <= 100

    # Testing alone finds the checkpoint, and gives the same embeddings from any other place it is told of.
    before = embeddings.embeddings
    elsewhere = tmp_path / "elsewhere"
    done = run_quickly(
        f"--workdir={elsewhere}", "--phase=test", *flags(people), f"--config.init_from={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    after = EmbeddingSet.load(elsewhere / "test" / "embeddings.npz").embeddings
    assert np.array_equal(before, after)


@pytest.mark.slow
def test_stopping_early_and_going_on_changes_nothing(people, tmp_path):
    config = toy_config(people)
    config.data.sampling.mode, config.data.sampling.min_frames = "unfixed_unordered", 1
    config.data.sampling.max_frames = 4
    config.train.steps = 4
    train(config, tmp_path / "whole")
    config.train.steps = 2
    train(config, tmp_path / "parts")
    config.train.steps, config.data.workers = 4, 1
    train(config, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_test_that_was_due_when_a_run_ended_is_made_up_for(people, tmp_path):
    config = toy_config(people)
    config.train.steps, config.train.test_every, config.train.keep_best = 2, 1, "NM/Rank-1"
    with pytest.raises(PreemptedError, match="saved step 1"):
        train(config, tmp_path / "run", preemption=AfterOneStep())
    shutil.rmtree(tmp_path / "run" / "test-1")  # as if it had ended in the middle of this test
    last = train(config, tmp_path / "run")["scores"]["NM"]["Rank-1"]
    first = json.loads((tmp_path / "run" / "test-1" / "metrics.json").read_text())["scores"]["NM"]["Rank-1"]
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["value"] == pytest.approx(max(first, last))  # the test at the end counts, too
    points = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points if "test/NM/Rank-1" in point] == [1, 2]


@pytest.mark.slow
def test_averages_and_chunks_go_on_bit_for_bit_and_both_weights_are_tested(people, tmp_path):
    config = toy_config(people)
    config.train.steps, config.train.ema, config.train.accumulate = 4, 0.9, 2
    config.train.test_every, config.train.keep_best = 2, "average-NM/Rank-1"
    whole = train(config, tmp_path / "whole")
    config.train.steps = 2
    train(config, tmp_path / "parts")
    config.train.steps, config.data.workers = 4, 1
    train(config, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    averages = [load_weights(f"{tmp_path / name}@average") for name in ("whole", "parts")]
    for x, y in zip(*(jax.tree.leaves(w.params) for w in averages), strict=True):
        assert np.array_equal(x, y)

    run = tmp_path / "whole"
    for folder in ("test", "test-average", "test-2", "test-2-average"):
        assert (run / folder / "metrics.json").is_file()
    origin = json.loads((run / "test-average" / "metrics.json").read_text())["model"]
    assert origin["checkpoint"].endswith("checkpoints/4@average")
    assert origin["digest"] == mcl_jax.load(f"{run}@average").digest == whole["average"]["model"]["digest"]
    assert whole["model"]["digest"] == mcl_jax.load(run).digest != origin["digest"]
    assert "Of the weights averaged over training." in (run / "test-average" / "table.txt").read_text()
    assert "average-NM" in (run / "training.html").read_text()
    again = evaluate_run(config, run)
    assert (again["scores"], again["average"]["scores"]) == (whole["scores"], whole["average"]["scores"])

    config.train.steps, config.train.ema = 5, 0.0
    with pytest.raises(ConfigError, match=r"train.ema was 0.9 and is 0.0"):
        train(config, run)
    config.init_from, config.train.steps = f"{run}@average", 1
    train(config, tmp_path / "fine-tuned")


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY_MODELS)
def test_models_over_time_go_on_in_half_precision_as_if_never_stopped(people, tmp_path, name):
    blocks: dict[str, Any] = {"eval": {"protocol": "none"}}
    if name == "swingait":  # with the groups and the schedule that it needs
        recipe = load_config("gait3d_swingait")
        blocks |= {"optimizer": recipe.optimizer.to_dict(), "schedule": recipe.schedule.to_dict()}
    config = toy_config_of(people, name, **blocks)
    config.train.precision, config.train.steps = "bfloat16", 3
    train(config, tmp_path / "whole")
    config.train.steps = 1
    train(config, tmp_path / "parts")
    config.train.steps, config.data.workers = 3, 1
    train(config, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert all(np.isfinite(x).all() for x in final_arrays(tmp_path / "whole"))


@pytest.mark.slow
def test_two_hosts_train_and_test_like_one(people, tmp_path):
    # One step: rounding grows tenfold with each, and how this one is compiled differs between the two.
    settings = [*flags(people), "--config.train.steps=1", "--config.optimizer.lr=0.001"]
    done = run(f"--workdir={tmp_path / 'two'}", *settings, "--hosts=local:2", devices=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 1/1") == 1
    starts = (tmp_path / "two" / "stretches.jsonl").read_text().splitlines()
    assert [(json.loads(start)["hosts"], json.loads(start)["devices"][0]) for start in starts] == [(2, 4)]
    assert len([*(tmp_path / "two" / "tensorboard").glob("events*")]) == 1  # only the first logs
    done = run_quickly(f"--workdir={tmp_path / 'one'}", *settings)
    assert done.returncode == 0, done.stderr
    for x, y in zip(final_arrays(tmp_path / "one"), final_arrays(tmp_path / "two"), strict=True):
        assert y == pytest.approx(x, rel=1e-3, abs=1e-5)
    one, two = (
        EmbeddingSet.load(tmp_path / d / "test" / "embeddings.npz").embeddings for d in ("one", "two")
    )
    assert two == pytest.approx(one, rel=1e-2, abs=1e-3)
    # And one host, with as many devices as this process has, goes on with what two have done, in less memory.
    config = toy_config(people)
    config.train.remat = True
    config.optimizer.lr, config.schedule.milestones = 0.001, (400, 540)
    train(config, tmp_path / "two")
    stretches = (tmp_path / "two" / "stretches.jsonl").read_text().splitlines()
    assert [json.loads(stretch)["hosts"] for stretch in stretches] == [2, 1]
    assert all(np.isfinite(x).all() for x in final_arrays(tmp_path / "two"))


@pytest.mark.slow
def test_more_hosts_than_sequences(people, tmp_path, monkeypatch):
    config = toy_config(people)
    config.train.steps = 1
    train(config, tmp_path)
    weights = load_weights(tmp_path)
    embedder = build_embedder(config, weights.block)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    only = Split(tuple(scan_tree(people)[-1:]), ("006",), PklSource())
    embeddings = embedder.embed_split(weights.params, weights.batch_stats, only, workers=0).embeddings
    whole = EmbeddingSet.load(tmp_path / "test" / "embeddings.npz").embeddings
    assert embeddings == pytest.approx(whole[-1:], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "PyTorch file"])
def test_fine_tuning_starts_from_weights_without_their_classifier(people, tmp_path, kind):
    config = toy_config(people)
    train(config, tmp_path / "first")
    config.init_from, config.model.num_classes = str(tmp_path / "first"), 5
    if kind == "PyTorch file":
        weights = load_weights(config.init_from)
        state_dict = export_state_dict(weights.params, weights.batch_stats, model="gaitbase", steps=3)
        config.init_from = str(tmp_path / "weights.pt")
        write_torch_file(tmp_path / "weights.pt", {"model": state_dict, "iteration": 3})
    config.train.steps, config.optimizer.lr = 1, 0.0
    train(config, tmp_path / "second")
    first, second = (load_weights(tmp_path / name).params for name in ("first", "second"))
    assert first["head"]["necks"].pop("kernel").shape == (16, 3, 3)
    assert second["head"]["necks"].pop("kernel").shape == (16, 3, 5)
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.array_equal(x, y)


@pytest.mark.slow
def test_fine_tuning_keeps_a_classifier_only_of_the_same_people(people, toy_run, tmp_path, caplog):
    def kernel_after_no_update(name: str, **changes: Any) -> np.ndarray:
        config = toy_config(people)
        config.init_from, config.train.steps, config.optimizer.lr = str(toy_run), 1, 0.0
        config.eval.protocol = "none"
        config.update_from_flattened_dict(changes)
        train(config, tmp_path / name)
        return np.asarray(load_weights(tmp_path / name).params["head"]["necks"]["kernel"])

    trained = np.asarray(load_weights(toy_run).params["head"]["necks"]["kernel"])
    assert np.array_equal(kernel_after_no_update("same"), trained)  # the run knows its people
    assert "left out" not in caplog.text
    content = json.loads(Path(partition_of(people)).read_text())
    others = tmp_path / "others.json"
    others.write_text(json.dumps({"TRAIN_SET": content["TEST_SET"], "TEST_SET": content["TRAIN_SET"]}))
    partition = {"data.partition": str(others)}
    assert not np.array_equal(kernel_after_no_update("others", **partition), trained)
    assert "left out: its classes are the people it was trained on" in caplog.text
    asked = kernel_after_no_update("asked", **partition, **{"train.keep_classifier": True})
    assert np.array_equal(asked, trained)


@pytest.mark.slow
def test_the_checkpoint_of_a_step_and_how_many_frames_count(people, toy_run, tmp_path):
    config = toy_config(people)
    shutil.copytree(toy_run, tmp_path / "run")
    config.eval.step, config.init_from = 3, "/nowhere"

    def embeddings(frames: int) -> np.ndarray:
        config.eval.max_frames = frames
        evaluate_run(config, tmp_path / "run")
        return EmbeddingSet.load(tmp_path / "run" / "test-3" / "embeddings.npz").embeddings

    newest = (tmp_path / "run" / "test" / "metrics.json").read_bytes()
    gait = mcl_jax.load(toy_run)
    first = sorted(path.parent for path in people.glob("004/*/*/*.pkl"))[0]
    walk = read_walk(first)
    for frames in (1, 4):
        assert embeddings(frames)[0] == pytest.approx(gait.embed(walk[:frames])[0], rel=1e-4, abs=1e-5)
    assert (tmp_path / "run" / "test" / "metrics.json").read_bytes() == newest
    config.eval.step = 2
    with pytest.raises(CheckpointError, match=r"eval.step: .* no checkpoint of step 2; there are those of 3"):
        evaluate_run(config, tmp_path / "run")


@pytest.mark.slow
def test_fine_tuning_with_frozen_batch_norm_leaves_the_statistics(people, toy_run, tmp_path):
    config = toy_config(people)
    config.init_from, config.train.steps, config.optimizer.lr = str(toy_run), 2, 1e-4
    config.train.freeze_batch_norm = True
    train(config, tmp_path / "run")
    first, second = load_weights(toy_run), load_weights(tmp_path / "run")
    for x, y in zip(jax.tree.leaves(first.batch_stats), jax.tree.leaves(second.batch_stats), strict=True):
        assert np.array_equal(x, y)
    norms = [weights.params["stem"]["norm"] for weights in (first, second)]
    assert all(np.any(norms[0][key] != norms[1][key]) for key in ("scale", "bias"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.model.chanels=1"], "there is no config key 'chanels'"),
        (["--config.train.steps=many"], "config.train.steps=many"),
        (["--config.model.mode=3d"], "there is no config key 'mode'"),
        (
            ["--config.model.name=gaitgraph"],
            "model.name: no 'gaitgraph'; there are gaitset, gaitbase",
        ),
        (["--config.data.root=/nowhere"], "data.root: no folder '/nowhere'"),
        (
            ["--config.data.partition=/nowhere.json"],
            "/nowhere.json: cannot read the partition: No such file",
        ),
        (["--config.model.num_classes=2"], "model.num_classes: is 2, but there are 3 training subjects"),
        (["--phase=test"], "no such run or checkpoint file; give the workdir"),
        (["--config.init_from=/nowhere.pt"], "/nowhere.pt: no such run or checkpoint file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_1(people, tmp_path, arguments, message):
    done = run_quickly(f"--workdir={tmp_path / 'run'}", *flags(people), *arguments)
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "test").exists()


def test_more_subjects_than_there_are_is_named(people, tmp_path):
    config = toy_config(people)
    config.train.batch = (9, 2)
    with pytest.raises(ConfigError, match="P = 9 subjects a batch, but the training split has 3"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_config_file_is_one_line():
    done = run(config="nothing")
    assert done.returncode == 1
    assert "configs/nothing.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_batch_can_be_looked_at(people, tmp_path):
    sheet = tmp_path / "clips.png"
    done = run_quickly(f"--workdir={tmp_path / 'run'}", *flags(people), f"--show_clips={sheet}")
    assert done.returncode == 0, done.stderr
    image = cv2.imread(str(sheet), cv2.IMREAD_UNCHANGED)
    clips = image[-4 * 65 :, -16 * 44 :]
    assert clips[:64, :88].any()
    assert not clips[:64, 88:].any()
    assert image.shape[0] > 4 * 65  # the numbers of frames stand above, names to the left
    assert (image[-4 * 65 :, : -16 * 44] == 255).any()
    assert not (tmp_path / "run").exists()


class Hostile:
    """Runs a command when unpickled the ordinary way."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_hostile_sequence_stops_training_and_is_not_executed(people, tmp_path, workers):
    tree = tmp_path / "walkers"
    shutil.copytree(people, tree)
    shutil.copy(people.parent / "walkers_partition.json", tmp_path)
    for path in tree.rglob("00[123]/**/*.pkl"):
        path.write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    config = toy_config(tree)
    config.data.workers = workers
    with pytest.raises(DataError, match=r"\.pkl: .*refused without executing anything"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "executed").exists()


def test_a_protocol_that_does_not_fit_is_said_before_the_first_step(people, tmp_path):
    config = toy_config(people)
    config.eval.protocol = "grew_local"
    with pytest.raises(DataError, match=r"^the test split cannot be scored: protocol grew_local: no probe"):
        train(config, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_unreadable_test_sequences_are_left_out_and_counted(people, tmp_path, toy_run, caplog):
    tree = Path(shutil.copytree(people, tmp_path / "walkers"))
    shutil.copy(people.parent / "walkers_partition.json", tmp_path)
    next((tree / "004" / "bg-01" / "036").glob("*.pkl")).write_bytes(b"")
    config = toy_config(tree)
    config.init_from = str(toy_run)
    with pytest.raises(DataError, match=r"1 of 24 sequences cannot be used; the first: .*the file is empty"):
        evaluate_run(config, tmp_path / "test")
    config.data.on_error = "skip"
    metrics = evaluate_run(config, tmp_path / "test")
    assert (metrics["counts"]["sequences"], metrics["counts"]["unreadable"]) == (23, 1)
    assert "Without 1 sequences that cannot be read." in metrics["table"]
    assert "1 of 24 test sequences cannot be read, and are left out; the first: " in caplog.text


@pytest.mark.slow
def test_embeddings_are_written_even_where_the_protocol_does_not_fit(people, tmp_path, monkeypatch):
    monkeypatch.setattr("mcl_jax.evaluate.assign_roles", lambda *_, **settings: None)  # not known before
    config = toy_config(people)
    config.eval.protocol = "grew_local"
    config.train.steps, config.train.test_every = 2, 1
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "cmc.png").touch()  # of a test before
    with pytest.raises(
        DataError, match=r"^not scored: protocol grew_local: no probe .*embeddings are in .*/test/"
    ):
        train(config, tmp_path)
    for folder in ("test-1", "test"):
        assert [p.name for p in (tmp_path / folder).iterdir()] == ["embeddings.npz"]
    config.eval.protocol = "none"
    assert evaluate_run(config, tmp_path) == {}
    assert len(EmbeddingSet.load(tmp_path / "test" / "embeddings.npz")) == 24
