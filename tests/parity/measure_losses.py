"""Measures differences between mcl_jax's and PyTorch's losses, as `measure` does for models."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_reference
from jax_side import OPTIONS
from measure import metric_per_part, relative

from mcl_jax.losses import cross_entropy_loss


def measure_losses(dtype):
    """Compares the losses in one precision with PyTorch's in float64."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(12, 5, 16)).astype(np.float32)
    logits = generator.uniform(-1, 1, size=(12, 5, 7)).astype(np.float32)
    labels = np.repeat(np.arange(4), 3)
    cases = [
        (metric_per_part(0.2, None), lambda x, y: torch_reference.metric_loss(x, y, 0.2).mean(), embeddings),
        (
            metric_per_part(0.6, 0.6),
            lambda x, y: torch_reference.metric_loss(x, y, 0.6, 0.6).mean(),
            embeddings,
        ),
        (
            metric_per_part(0.4, 1.0),
            lambda x, y: torch_reference.metric_loss(x, y, 0.4, 1.0).mean(),
            embeddings,
        ),
        (cross_entropy_loss, torch_reference.cross_entropy, logits),
    ]
    values, gradients = [], []
    with jax.enable_x64(True):
        for ours, theirs, array in cases:
            x = torch.tensor(array, dtype=torch.float64, requires_grad=True)
            expected = theirs(x, torch.from_numpy(labels))
            expected.backward()
            gradient_of = _gradient_of(ours, dtype)
            (value, _), gradient = gradient_of(jnp.asarray(array, dtype), jnp.asarray(labels))
            values.append(relative(value, expected.item()))
            gradients.append(relative(gradient, x.grad))
    return _losses_named(values, gradients, dtype)


def measure_reference_losses(dtype, folder):
    """Compares the losses in one precision with OpenGait's in float64."""
    figures = np.load(folder / "losses.npz")
    values, gradients = [], []
    with jax.enable_x64(True):
        for j in range(3):
            labels = jnp.asarray(figures[f"{j}/labels"])
            embeddings = jnp.asarray(figures[f"{j}/embeddings"], dtype)
            for key, margin, gamma in (("triplet", 0.2, None), ("mcl", 0.6, 0.6), ("mcl_g1", 0.4, 1.0)):
                loss = metric_per_part(margin, gamma)
                (_, metrics), gradient = _gradient_of(loss, dtype)(embeddings, labels)
                values.append(relative(metrics["loss"], figures[f"{j}/{key}/loss_per_part"]))
                gradients.append(relative(gradient, figures[f"{j}/{key}/grad_embeddings"]))
            logits = jnp.asarray(figures[f"{j}/logits"], dtype)
            (value, _), gradient = _gradient_of(cross_entropy_loss, dtype)(logits, labels)
            values.append(relative(value, figures[f"{j}/ce/loss"]))
            gradients.append(relative(gradient, figures[f"{j}/ce/grad_logits"]))
    return _losses_named(values, gradients, dtype)


def _gradient_of(loss, dtype):
    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=OPTIONS[dtype])


def _losses_named(values, gradients, dtype):
    suffix = " (float32)" if dtype == "float32" else ""
    return {f"losses{suffix}": max(values), f"gradients of losses{suffix}": max(gradients)}
