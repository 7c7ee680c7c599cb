"""FoundationGait's fine-tuning beside PyTorch's: cut frames, rates of stages, OpenGait's own figures."""

import json
import pickle

import jax
import numpy as np
import pytest
import torch
from jax_side import JaxModel, JaxTrainer, pack
from measure import ALL, random_clips, relative, to_arrays, torch_model, worst
from torch_reference import Optimizer, TorchTrainer

import mcl_jax

RATES = {"layer3": 0.01, "layer4": 0.05, "projector": 0.1, "FCs": 1.0, "BNNecks": 1.0}
OURS = (
    ("^(stem|stages/[01])/", 0.0, 1.0),
    ("^stages/2/", 0.01, 1.0),
    ("^stages/3/", 0.05, 1.0),
    ("^projector/", 0.1, 1.0),
)


def by_groups(model, lr, weight_decay):
    """Returns PyTorch's SGD in which layers without a rate are left out, as OpenGait has it."""
    backbone = model.teacher_backbone
    modules = {name: getattr(backbone if hasattr(backbone, name) else model, name) for name in RATES}
    groups = [{"params": modules[name].parameters(), "lr": lr * rate} for name, rate in RATES.items()]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=weight_decay)


@pytest.mark.slow
def test_fine_tuning_is_pytorchs_step_by_step():
    """Two pieces of two clips each: one cut into 2 strips, or 3 of moved frames, and one left whole."""
    settings = Optimizer(milestones=(2,), groups=OURS)
    theirs = TorchTrainer(torch_model("foundationgait").double(), ALL["foundationgait"].recipe, settings)
    theirs.optimizer = by_groups(theirs.model, settings.lr, settings.weight_decay)
    theirs.scheduler = torch.optim.lr_scheduler.MultiStepLR(theirs.optimizer, settings.milestones, 0.1)
    before = to_arrays(theirs.model)
    labels = np.array([0, 0, 3, 3])
    with jax.enable_x64(True):
        model = JaxModel("foundationgait", ALL["foundationgait"].sizes, dtype="float64")
        model.load(before)
        trainer = JaxTrainer(model, ALL["foundationgait"].recipe, [settings])
        for step in range(4):
            clips = random_clips([5] * 4, np.float64, seed=step)
            frames = torch.from_numpy(np.concatenate(clips))
            _, _, expected = theirs.step(frames, [5] * 4, torch.from_numpy(labels))
            loss = trainer.step(pack(clips, slots=5, per_row=1), labels)[0]
            assert relative(loss, expected) < 1e-7, step
            if step == 0:
                named = theirs.model.named_parameters()
                gradients = {name: p.grad.numpy() for name, p in named if p.grad is not None}
                assert worst(trainer.gradients(), gradients) < 1e-8
                buffers = to_arrays(theirs.model)
                statistics = trainer.statistics()
                assert worst(statistics, {name: buffers[name] for name in statistics}) < 1e-8
        updated = model.named(trainer.state.params)
    after = to_arrays(theirs.model)
    assert worst(updated, {name: after[name] for name in updated}) < 1e-7
    frozen = {name for name in updated if np.array_equal(updated[name], before[name])}
    layers = tuple(f"teacher_backbone.layer{i}." for i in range(3))
    assert frozen == {name for name in updated if name.startswith(layers)}


@pytest.mark.slow
def test_cuts_of_all_published_numbers():
    """Eight clips of which each pair is a piece: 8, 4, 2 strips and none."""
    sizes = ALL["foundationgait"].sizes | {"crops": (8, 4, 2, 1)}
    theirs = torch_model("foundationgait").double().train()
    theirs.crops = sizes["crops"]
    clips = random_clips([2] * 8, np.float64)
    with jax.enable_x64(True):
        ours = JaxModel("foundationgait", sizes, dtype="float64")
        ours.load(to_arrays(theirs))
        embeddings, logits = ours.run(pack(clips, slots=2, per_row=1), 8, train=True)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(np.concatenate(clips)), [2] * 8)
    assert relative(embeddings, expected[0]) < 1e-8
    assert relative(logits, expected[1]) < 1e-8


@pytest.mark.slow
def test_embeddings_are_those_of_opengait(shared_parity, real_silhouettes):
    case = json.loads((shared_parity / "cases.json").read_text())["foundationgait"]
    figures = np.load(shared_parity / "foundationgait.npz")
    gait = mcl_jax.load(shared_parity / "foundationgait.pt")  # the file tells the model and its sizes
    for key in ("mode", "layers", "channels", "bins", "embed_dim", "num_classes"):
        if key in case:
            assert np.array_equal(case[key], gait.arguments[key]), key
    paths = [real_silhouettes / "pkl" / path for path in case["sequences"]]
    clips = [pickle.loads(path.read_bytes())[:, :, 10:54] for path in paths]
    assert relative(gait.embed(clips), figures["eval/embeddings"]) < 1e-5
    short = [clips[0][:frames] for frames in figures["short/frames"]]
    assert relative(gait.embed(short), figures["short/embeddings"]) < 1e-5
