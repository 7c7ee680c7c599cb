"""One update of the parameters: a pure function of (state, batch)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from mcl_jax import losses
from mcl_jax.models import GaitOutput
from mcl_jax.sharding import replicated, split_rows
from mcl_jax.train_state import Model, TrainState, Tree

Metrics = dict[str, jax.Array]
StepFunction = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The training loss; fields are the config's `loss` keys."""

    metric: str
    margin: float
    gamma: float
    metric_weight: float
    ce_weight: float
    ce_scale: float
    label_smoothing: float


def total_loss(output: GaitOutput, labels: jax.Array, settings: LossSettings) -> tuple[jax.Array, Metrics]:
    """Returns the weighted sum of the losses, and scalar metrics averaged over parts.

    Args:
        output: what the model returned for n sequences.
        labels: int [n], −1 where there is no sequence.
        settings: which losses, and their weights.
    """
    valid = labels >= 0
    embeddings = output.embeddings
    if settings.metric == "mcl":
        metric, parts = losses.mcl_loss(embeddings, labels, settings.margin, settings.gamma, valid=valid)
    else:
        metric, parts = losses.triplet_loss(embeddings, labels, settings.margin, valid=valid)
    metrics = {key: value.mean() for key, value in parts.items() if key != "loss"}
    metrics["metric_loss"] = settings.metric_weight * metric
    total = metrics["metric_loss"]
    if settings.ce_weight:
        if output.logits is None:
            raise ValueError("a model without classifier needs ce_weight = 0")
        ce, scalars = losses.cross_entropy_loss(
            output.logits, labels, settings.ce_scale, settings.label_smoothing, valid=valid
        )
        metrics["ce_loss"] = settings.ce_weight * ce
        metrics["accuracy"] = scalars["accuracy"]
        total = total + metrics["ce_loss"]
    return total, {"loss": total, **metrics}


def make_train_step(
    model: Model, optimizer: optax.GradientTransformation, settings: LossSettings
) -> StepFunction:
    """Returns the update as a pure function of (state, batch), not yet compiled.

    A batch is a `packing.TrainBatch` on devices.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        labels = batch["labels"]

        def loss_of(params: Tree) -> tuple[jax.Array, tuple[Metrics, Tree]]:
            module = model.merge(params, state.batch_stats)
            output = module(batch["frames"], batch["segment_ids"], num_segments=labels.shape[1], train=True)
            total, metrics = total_loss(output, labels.reshape(-1), settings)
            return total, (metrics, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))

        gradients, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics["sequences"] = (labels >= 0).sum()
        metrics["frames"] = (batch["segment_ids"] >= 0).sum()
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), jax.tree.map(jnp.asarray, metrics)

    return train_step


def compile_train_step(
    train_step: StepFunction, mesh: Mesh, compiler_options: dict[str, str]
) -> StepFunction:
    """Jits the update: state donated and on every device, rows of the batch split over the mesh."""
    whole, rows = replicated(mesh), split_rows(mesh)
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(whole, rows),
        out_shardings=(whole, whole),
        compiler_options=compiler_options,
    )
