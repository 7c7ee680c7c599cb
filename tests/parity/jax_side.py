"""Runs mcl_jax's models for the parity tests: takes packed rows, returns NumPy arrays in PyTorch's layout."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from xla_flags import cpu_options

from mcl_jax.convert.importer import import_state_dict
from mcl_jax.convert.opengait import entries
from mcl_jax.losses.total import complete_losses
from mcl_jax.models.registry import create_model
from mcl_jax.training.optimizers import OPTIMIZERS, multi_step
from mcl_jax.training.state import create_state
from mcl_jax.training.step import make_train_step
from mcl_jax.utils.pytrees import get_leaf
from mcl_jax.utils.spacing import SIDE_BY_SIDE

CHEAP = cpu_options(fusion_emitters=False, split_count=1) | {"xla_backend_optimization_level": 1}
"""Options for machine code compiled cheaply; with level 0 steps take longer than their compilation."""

OPTIONS: dict[str, dict[str, int | bool]] = {"float32": {}, "float64": {}, "bfloat16": {}}
"""XLA's options for programs in each precision; the tests set them."""


@dataclass(frozen=True)
class Rows:
    """Clips packed into rows, with empty slots between neighbours.

    Attributes:
        frames: [rows, slots, h, w].
        segment_ids: [rows, slots].
        per_row: sequences that a row holds at most; clip i is output i of the rows · per_row.
    """

    frames: np.ndarray
    segment_ids: np.ndarray
    per_row: int


def pack(clips, *, slots, per_row, spacing=SIDE_BY_SIDE):
    """Packs clips [s, h, w] in order, `per_row` to a row."""
    rows = -(-len(clips) // per_row)
    frames = np.zeros((rows, slots, *clips[0].shape[1:]), clips[0].dtype)
    segment_ids = np.full((rows, slots), -1, np.int32)
    free = [0] * rows
    for i, clip in enumerate(clips):
        row, segment = divmod(i, per_row)
        here = slice(free[row], free[row] + len(clip))
        frames[row, here], segment_ids[row, here] = clip, segment
        free[row] += spacing.taken(len(clip))
    return Rows(frames, segment_ids, per_row)


class JaxModel:
    """A model with imported weights, in one precision; compiled programs are made once."""

    def __init__(self, name, sizes, *, dtype="float32"):
        self.name = name
        self.model = create_model(name, sizes, dtype=dtype)
        wide = jnp.promote_types(dtype, jnp.float32)  # float32 beside a bfloat16 backbone
        self.params, self.stats = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, wide),
            self.model.shapes(),
        )
        self.forward = jax.jit(
            self._forward, static_argnames=("per_row", "train"), compiler_options=OPTIONS[dtype]
        )

    def load(self, state_dict):
        imported = import_state_dict(state_dict, self.params, self.stats, model=self.name)
        self.params, self.stats = imported.params, imported.batch_stats

    def run(self, rows, count, *, train=False):
        """Returns embeddings [count, parts, c] and logits, or None, of the first `count` sequences."""
        output = self.forward(
            self.params, self.stats, rows.frames, rows.segment_ids, per_row=rows.per_row, train=train
        )
        return tuple(None if x is None else np.asarray(x)[:count] for x in output)

    def named(self, tree, collection="params"):
        """Returns a tree like the parameters (or statistics) by PyTorch's names, in its layout."""
        return {
            entry.name: entry.to_torch_layout(np.asarray(get_leaf(tree, entry.path)))
            for entry in entries(self.name, self.params)
            if entry.collection == collection
        }

    def _forward(self, params, stats, frames, segment_ids, *, per_row, train):
        module = self.model.merge(params, stats)
        output = module(frames, segment_ids, num_segments=per_row, train=train)
        return output.embeddings, output.logits


class JaxTrainer:
    """The package's own training step, whose gradients can be looked at.

    Its one compiled program knows several optimisers.
    """

    def __init__(self, model, recipe, optimizers, *, remat=False):
        self.model = model
        self.metric = "triplet" if recipe.gamma is None else "mcl"
        losses = {
            self.metric: {"weight": recipe.weight, "margin": recipe.margin},
            "cross_entropy": {
                "weight": recipe.ce_weight or 0.0,
                "scale": recipe.ce_scale,
                "label_smoothing": recipe.ce_smoothing,
            },
        }
        if recipe.gamma is not None:
            losses[self.metric]["gamma"] = recipe.gamma
        self.optimizer = _recording([_make(optimizer) for optimizer in optimizers])
        options = {"remat": remat, "freeze_batch_norm": recipe.freeze_batch_norm}
        step = make_train_step(model.model, self.optimizer, complete_losses(losses), **options)
        self.step_function = jax.jit(step, compiler_options=OPTIONS["float64"])
        self.start(0)

    def start(self, number):
        """Begins again from the model's weights with one of the optimisers."""
        self.state = create_state(self.model.params, self.model.stats, self.optimizer)
        gradients, _, inner = self.state.opt_state
        opt_state = (gradients, jnp.asarray(number), inner)
        self.state = dataclasses.replace(self.state, opt_state=opt_state)

    def step(self, rows, labels):
        """Returns the total, metric and cross-entropy loss of one update."""
        padded = np.full((len(rows.segment_ids), rows.per_row), -1, np.int32)
        padded.reshape(-1)[: len(labels)] = labels
        batch = {"frames": rows.frames, "segment_ids": rows.segment_ids, "labels": padded}
        self.state, metrics = self.step_function(self.state, batch)
        keys = ("loss", f"{self.metric}/loss", "cross_entropy/loss")
        return [float(metrics.get(key, 0.0)) for key in keys]

    def use_weights(self):
        """Gives the model the weights of the last update."""
        self.model.params, self.model.stats = self.state.params, self.state.batch_stats

    def gradients(self):
        """Returns the gradients of the last update by PyTorch's names."""
        return self.model.named(self.state.opt_state[0])

    def statistics(self):
        """Returns the batch statistics after the last update by PyTorch's names."""
        return self.model.named(self.state.batch_stats, "batch_stats")


def _make(optimizer):
    schedule = multi_step(optimizer.lr, milestones=optimizer.milestones)
    return OPTIMIZERS[optimizer.name](schedule, weight_decay=optimizer.weight_decay, groups=optimizer.groups)


def _recording(optimizers):
    """One of several optimisers, chosen by its state, which also holds the gradients it was last given."""

    def init(params):
        inner = tuple(optimizer.init(params) for optimizer in optimizers)
        return jax.tree.map(jnp.zeros_like, params), jnp.asarray(0), inner

    def update(gradients, state, params):
        _, number, inner = state
        pairs = [o.update(gradients, s, params) for o, s in zip(optimizers, inner, strict=True)]
        updates = jax.tree.map(
            lambda *candidates: jnp.stack(candidates)[number], *(updates for updates, _ in pairs)
        )
        return updates, (gradients, number, tuple(s for _, s in pairs))

    return optax.GradientTransformation(init, update)
