"""Measures differences between mcl_jax's and PyTorch's models: quantity → largest relative error.

The tests compare these figures with tolerances, and `scripts/parity_table.py` prints them. There are two
references: the PyTorch modules in tests/torch_reference with random inputs and weights, and, if available,
figures that OpenGait itself computed on real silhouettes.
"""

import dataclasses
import functools
import json
import pickle
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_reference
from jax_side import JaxModel, JaxTrainer, pack
from torch_reference import Optimizer, Recipe, TorchTrainer

from mcl_jax.config import load_config
from mcl_jax.convert.importer import load_checkpoint
from mcl_jax.losses import mcl_loss, triplet_loss

TOLERANCES = {
    "test embeddings (float32)": 1e-5,
    "test logits (float32)": 1e-5,
    "packed, one by one (float32)": 1e-5,
    "short clips (float32)": 1e-5,
    "losses (float32)": 1e-6,
    "gradients of losses (float32)": 1e-6,
    "losses": 1e-10,
    "gradients of losses": 1e-10,
    "training embeddings": 1e-8,
    "metric loss per part": 1e-8,
    "training logits": 1e-8,
    "gradients": 1e-8,
    "batch statistics": 1e-8,
    "second step's embeddings": 1e-8,
    "losses of frozen steps": 1e-8,
    "gradients of frozen steps": 1e-8,
    "losses of six SGD steps": 1e-7,
    "losses of six Adam steps": 1e-7,
    "losses of three AdamW steps": 1e-7,
}
"""Quantity → largest relative error allowed; in float64 where the name does not say otherwise."""

NO_GRADIENT = {"transformer.norm.bias"}
"""Parameters whose gradient is zero but for rounding: they cancel out in all that a loss is made of."""

OPTIMIZERS = {"SGD": Optimizer("sgd"), "Adam": Optimizer("adam", lr=1e-3)}


@dataclass(frozen=True)
class Variant:
    """A kind of model at toy width.

    Attributes:
        packed: whether our PyTorch model takes clips of different lengths in training.
        packed_there: whether OpenGait's does.
        there: optimiser of OpenGait's figures.
    """

    model: str
    sizes: dict[str, Any]
    recipe: Recipe
    packed: bool = True
    packed_there: bool = True
    there: Optimizer = OPTIMIZERS["SGD"]


def _deepgaitv2(mode, layers, *, packed=True):
    sizes = {"mode": mode, "layers": layers, "channels": (8, 16, 32, 64), "num_classes": 8}
    return Variant("deepgaitv2", sizes, Recipe(), packed, packed_there=mode == "2d")


def _gaitgl(form, channels, *, smoothing=0.0, **more):
    sizes = {"form": form, "channels": channels, "num_classes": 8, **more}
    recipe = Recipe(ce_scale=1.0, ce_smoothing=smoothing)
    there = Optimizer("adam", lr=1e-4, weight_decay=5e-4)
    return Variant("gaitgl", sizes, recipe, packed_there=False, there=there)


SWINGAIT_GROUPS = load_config("gait3d_swingait").optimizer.groups
SWINGAIT = {"layers": (1, 1, 2, 1), "parts": 3, "drop_path": 0.0, "num_classes": 8}
SWINGAIT_THERE = Optimizer("adamw", lr=3e-4, weight_decay=0.02, milestones=(), groups=SWINGAIT_GROUPS)

VARIANTS = {
    "gaitset": Variant("gaitset", {"channels": (8, 16, 32), "embed_dim": 24}, Recipe(ce_weight=None)),
    "gaitbase": Variant(
        "gaitbase",
        {"channels": (8, 16, 32, 64), "embed_dim": 32, "num_classes": 8},
        Recipe(margin=0.6, gamma=0.6, weight=1.2, ce_weight=0.8),
    ),
    "gaitpart": Variant(
        "gaitpart",
        {"channels": (8, 16, 32), "strips": (1, 4, 8), "embed_dim": 32},
        Recipe(ce_weight=None),
        packed_there=False,
        there=Optimizer("adam", lr=1e-4, weight_decay=0.0),
    ),
    "gaitgl": _gaitgl("small", (8, 16, 32)),
    "gaitgl_large": _gaitgl("large", (8, 16, 24, 32)),
    "gaitgl_bnneck": _gaitgl("large", (8, 16, 24, 32), necks=True, smoothing=0.1),
    "swingait": Variant(
        "swingait",
        SWINGAIT | {"channels": (16, 32), "widths": (256, 512)},
        Recipe(),
        packed_there=False,
        there=SWINGAIT_THERE,
    ),
    "deepgaitv2_2d": _deepgaitv2("2d", (1, 1, 1, 1)),
    "deepgaitv2_3d": _deepgaitv2("3d", (1, 2, 1, 1), packed=False),
    "deepgaitv2_p3d": _deepgaitv2("p3d", (1, 2, 2, 1)),
}


ALL = VARIANTS | {
    "gaitset_bins": dataclasses.replace(
        VARIANTS["gaitset"], sizes=VARIANTS["gaitset"].sizes | {"bins": (8, 4, 1)}
    ),
    "gaitbase_sizes": dataclasses.replace(
        VARIANTS["gaitbase"],
        sizes={
            "channels": (8, 16, 16, 24),
            "layers": (1, 2, 1, 2),
            "strides": (1, 2, 1, 2),
            "max_pool": True,
            "bins": (8, 4, 2, 1),
            "embed_dim": 32,
            "num_classes": 8,
        },
    ),
    "gaitbase_plain": Variant(
        "gaitbase",
        {
            "channels": (8, 16, 24, 32),
            "backbone": "plain",
            "bins": (8, 4, 1),
            "embed_dim": 16,
            "num_classes": 8,
        },
        Recipe(ce_weight=0.1),
    ),
    # Clips of equal lengths, as its cuts need there.
    "foundationgait": Variant(
        "foundationgait",
        {
            "mode": "p3d",
            "layers": (1, 1, 1, 1),
            "channels": (8, 12, 16, 16),
            "bins": (4, 2),
            "embed_dim": 12,
            "num_classes": 8,
            "crops": (2, 1),
        },
        Recipe(),
        packed=False,
    ),
    "swingait_narrow": Variant(
        "swingait", SWINGAIT | {"channels": (8, 12), "widths": (32, 48)}, Recipe(), there=SWINGAIT_THERE
    ),
}
"""And those of other sizes than the published runs have."""

NARROW = {"swingait": "swingait_narrow"}
"""Variant → the one whose sizes do for random inputs. OpenGait's SwinGait has 256 and 512 channels."""


def metric_per_part(margin, gamma):
    """Returns the loss over embeddings and labels: MCL, or triplet loss where there is no gamma."""
    if gamma is None:
        return lambda x, labels: triplet_loss(x, labels, margin)
    return lambda x, labels: mcl_loss(x, labels, margin, gamma)


def relative(ours, theirs):
    """Returns the largest difference as a share of the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), np.finfo(np.float64).tiny))


def worst(ours, theirs):
    """Returns the largest `relative` of arrays by name; the names must be the same."""
    assert ours.keys() == theirs.keys()
    return max((relative(ours[name], theirs[name]) for name in ours), default=0.0)


@functools.cache
def jax_model(name, dtype="float32"):
    return JaxModel(ALL[name].model, ALL[name].sizes, dtype=dtype)


@functools.cache
def jax_trainer(name):
    return JaxTrainer(jax_model(name, "float64"), ALL[name].recipe, _optimizers(name))


def _optimizers(name):
    return list(dict.fromkeys([*OPTIMIZERS.values(), ALL[name].there]))


def pack_pairs(clips, longest, model):
    """Packs two clips a row, of `longest` frames at most."""
    spacing = model.model.spacing
    return pack(clips, slots=spacing.taken(longest) + longest, per_row=2, spacing=spacing)


# PyTorch's modules, on random inputs and weights.


def torch_model(name):
    """Returns PyTorch's model with random weights and batch statistics."""
    torch.manual_seed(0)
    model = torch_reference.MODELS[ALL[name].model](**ALL[name].sizes)
    for key, tensor in model.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.3)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 1:
            tensor.add_(torch.empty_like(tensor).normal_(0, 0.2))
    return model


def to_arrays(model):
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def random_clips(lengths, dtype, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.uniform(size=(length, 64, 8)).astype(dtype) for length in lengths]


def measure_test_mode(name):
    """Compares embeddings and logits in float32, packed and one by one."""
    theirs, ours = torch_model(name).eval(), jax_model(name)
    ours.load(to_arrays(theirs))
    clips = random_clips((5, 3, 6), np.float32)
    spacing = ours.model.spacing
    options = {"slots": sum(spacing.taken(len(clip)) for clip in clips) - 1, "per_row": 3, "spacing": spacing}
    packed = ours.run(pack(clips, **options), len(clips))
    alone = [ours.run(pack([clip], **options), 1)[0] for clip in clips]
    with torch.no_grad():
        outputs = [theirs(torch.from_numpy(clip), [len(clip)]) for clip in clips]
    errors = {
        "test embeddings (float32)": relative(packed[0], torch.cat([e for e, _ in outputs])),
        "packed, one by one (float32)": relative(packed[0], np.concatenate(alone)),
    }
    if packed[1] is not None:
        errors["test logits (float32)"] = relative(packed[1], torch.cat([logits for _, logits in outputs]))
    return errors


def measure_training(name):
    """Compares the training pass, gradients, statistics and six updates in float64, sequences packed."""
    errors = {}
    with jax.enable_x64(True):
        trainer = jax_trainer(name)
        for number, (optimizer, options) in enumerate(OPTIMIZERS.items()):
            theirs = TorchTrainer(torch_model(name).double(), ALL[name].recipe, options)
            trainer.model.load(to_arrays(theirs.model))
            trainer.start(number)
            losses, first_step = _compare_steps(trainer, theirs, packed=ALL[name].packed)
            errors = first_step | errors | {f"losses of six {optimizer} steps": losses}
    return errors


def _compare_steps(trainer, theirs, *, packed):
    """Returns the error of the losses of six updates, and the errors of other quantities at the first."""
    labels = np.array([0, 0, 3, 3])
    losses = []
    for step in range(6):
        lengths = [6, 6, 6, 6]
        if step % 2:
            lengths = [6, 4, 5, 3] if packed else [5, 5, 5, 5]
        clips = random_clips(lengths, np.float64, seed=step)
        rows = pack_pairs(clips, 6, trainer.model)
        frames = torch.from_numpy(np.concatenate(clips))
        output = theirs.step(frames, lengths, torch.from_numpy(labels))
        losses.append((trainer.step(rows, labels)[0], output[2]))
        if step == 0:
            first_step = _compare_first_step(trainer, rows, theirs.model, output)
    return max(relative(ours, theirs) for ours, theirs in losses), first_step


def _compare_first_step(trainer, rows, model, output):
    embeddings, logits, _ = output
    ours = trainer.model.run(rows, len(embeddings), train=True)
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    found = trainer.gradients()
    for name in NO_GRADIENT & gradients.keys():
        assert max(np.abs(tree.pop(name)).max() for tree in (found, gradients)) < 1e-12
    statistics = {name: value.numpy() for name, value in model.named_buffers() if value.is_floating_point()}
    errors = {
        "training embeddings": relative(ours[0], embeddings),
        "gradients": worst(found, gradients),
        "batch statistics": worst(trainer.statistics(), statistics),
    }
    if logits is not None:
        errors["training logits"] = relative(ours[1], logits)
    return errors


def measure_frozen_training(name):
    """Compares three SGD steps with frozen batch norms in float64, packed and rematerialised."""
    recipe = dataclasses.replace(ALL[name].recipe, freeze_batch_norm=True)
    losses, gradients = [], []
    with jax.enable_x64(True):
        theirs = TorchTrainer(torch_model(name).double(), recipe, OPTIMIZERS["SGD"])
        model = JaxModel(ALL[name].model, ALL[name].sizes, dtype="float64")
        model.load(to_arrays(theirs.model))
        trainer = JaxTrainer(model, recipe, [OPTIMIZERS["SGD"]], remat=True)
        before = trainer.statistics()
        labels = np.array([0, 0, 3, 3])
        for step in range(3):
            lengths = [6, 4, 5, 3] if ALL[name].packed else [6, 6, 6, 6]
            clips = random_clips(lengths, np.float64, seed=step)
            frames = torch.from_numpy(np.concatenate(clips))
            expected = theirs.step(frames, lengths, torch.from_numpy(labels))[2]
            losses.append(relative(trainer.step(pack_pairs(clips, 6, model), labels)[0], expected))
            found = {key: parameter.grad.numpy() for key, parameter in theirs.model.named_parameters()}
            gradients.append(worst(trainer.gradients(), found))
        after, their_buffers = trainer.statistics(), dict(theirs.model.named_buffers())
    assert before.keys() == after.keys() == {key for key, value in their_buffers.items() if value.ndim}
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert all(np.array_equal(before[key], their_buffers[key]) for key in before)
    return {"losses of frozen steps": max(losses), "gradients of frozen steps": max(gradients)}


# Figures that OpenGait computed, on real silhouettes.


def check_case(folder, name):
    """Fails if the toy model here is not the one of the figures."""
    case = json.loads((folder / "cases.json").read_text())[name]
    if name == "swingait":
        (case["parts"],) = case["bins"]
    variant = ALL[name]
    for key in variant.sizes.keys() & case.keys():
        assert case[key] in (variant.sizes[key], [*_listed(variant.sizes[key])]), key
    loss = case["loss"]
    recipe = Recipe(loss["margin"], loss["gamma"], loss["weight"], loss["ce_weight"])
    if recipe.ce_weight is not None:
        scale, smoothing = loss["ce_scale"], loss["label_smoothing"]
        recipe = dataclasses.replace(recipe, ce_scale=scale, ce_smoothing=smoothing)
    assert recipe == variant.recipe
    there = case["optimizer"]
    assert dataclasses.replace(variant.there, groups=()) == Optimizer(
        there["kind"], there["lr"], there["weight_decay"], tuple(there.get("milestones", ()))
    )
    # OpenGait's modules that convolve over time take equal lengths alone.
    assert case["odd_steps_packed"] == variant.packed_there
    return case


def _listed(value):
    return value if isinstance(value, tuple) else ()


def real_clips(folder, silhouettes, name):
    """Returns the test sequences as uint8 [s, 64, 44]."""
    paths = [silhouettes / "pkl" / path for path in check_case(folder, name)["sequences"]]
    return [pickle.loads(path.read_bytes())[:, :, 10:54] for path in paths]


def measure_reference_test_mode(name, folder, silhouettes):
    """Compares test embeddings and logits of OpenGait's own checkpoint in float32."""
    figures = np.load(folder / f"{name}.npz")
    clips = real_clips(folder, silhouettes, name)
    ours = jax_model(name)
    ours.load(load_checkpoint(folder / f"{name}.pt").state_dict)
    embeddings, logits = ours.run(pack_pairs(clips, 60, ours), len(clips))
    errors = {"test embeddings (float32)": relative(embeddings, figures["eval/embeddings"])}
    if logits is not None:
        errors["test logits (float32)"] = relative(logits, figures["eval/logits"])
    if "short/frames" in figures:
        short = [clips[0][:length] for length in figures["short/frames"]]
        rows = pack(short, slots=48, per_row=len(short), spacing=ours.model.spacing)
        embeddings, _ = ours.run(rows, len(short))
        errors["short clips (float32)"] = relative(embeddings, figures["short/embeddings"])
    return errors


def measure_reference_training(name, folder, silhouettes):
    """Compares some steps in float64 with OpenGait's."""
    figures = np.load(folder / f"{name}.npz")
    sequences = real_clips(folder, silhouettes, name)
    packed = check_case(folder, name)["odd_steps_packed"]
    labels, frames = figures["batch/labels"], int(figures["batch/frames"])
    errors, losses = {}, []
    with jax.enable_x64(True):
        trainer = jax_trainer(name)
        trainer.model.load(load_checkpoint(folder / f"{name}_init.pt").state_dict)
        trainer.start(_optimizers(name).index(ALL[name].there))
        for step in range(len(figures["train/losses"])):
            shorter = step % 2 and packed
            lengths = figures["batch/lengths"] if shorter else np.full(len(labels), frames)
            spans = zip(figures["batch/sequence"], figures["batch/start"], lengths, strict=True)
            clips = [sequences[i][start : start + n] / 255 for i, start, n in spans]
            rows = pack_pairs(clips, frames, trainer.model)
            if step == 1 and shorter:
                trainer.use_weights()
                embeddings, _ = trainer.model.run(rows, len(labels), train=True)
                errors["second step's embeddings"] = relative(embeddings, figures["train1/embeddings"])
            if step == 0:
                output = trainer.model.run(rows, len(labels), train=True)
            losses.append(trainer.step(rows, labels))
            if step == 0:
                errors |= _compare_reference_step(trainer, output, figures, ALL[name].recipe)
    kind = {"sgd": "six SGD", "adam": "six Adam", "adamw": "three AdamW"}[ALL[name].there.name]
    errors[f"losses of {kind} steps"] = max(map(relative, losses, figures["train/losses"]))
    return errors


def _compare_reference_step(trainer, output, figures, recipe):
    embeddings, logits = output
    gradients = {key[6:]: figures[key] for key in figures if key.startswith("grad0/")}
    _, metrics = metric_per_part(recipe.margin, recipe.gamma)(
        jnp.asarray(embeddings), jnp.asarray(figures["batch/labels"])
    )
    errors = {
        "training embeddings": relative(embeddings, figures["train0/embeddings"]),
        "metric loss per part": relative(metrics["loss"], figures["train0/triplet_loss"]),
        # Of SwinGait some gradients alone are stored.
        "gradients": worst({key: trainer.gradients()[key] for key in gradients}, gradients),
    }
    assert np.array_equal(metrics["loss_num"], figures["train0/triplet_loss_num"])
    if logits is not None:
        errors["training logits"] = relative(logits, figures["train0/logits"])
    return errors


def measure_bfloat16(name, folder, silhouettes):
    """Returns the smallest and the mean cosine of bfloat16 to float32 embeddings, per sequence and part."""
    clips = real_clips(folder, silhouettes, name)
    state_dict = load_checkpoint(folder / f"{name}.pt").state_dict
    pair = []
    for dtype in ("float32", "bfloat16"):
        model = jax_model(name, dtype)
        model.load(state_dict)
        embeddings, _ = model.run(pack_pairs(clips, 60, model), len(clips))
        pair.append(embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True))
    cosines = (pair[0] * pair[1]).sum(-1)
    return float(cosines.min()), float(cosines.mean())
