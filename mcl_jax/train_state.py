"""What training changes: a tree of arrays, apart from the model's structure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mcl_jax.models import MODELS

Tree = Mapping[Any, Any]
"""Nested dicts of arrays; a list of modules is a dict with integer keys."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """State after `step` updates.

    Attributes:
        step: int32 scalar.
        params: trained parameters.
        batch_stats: running means and variances.
        opt_state: state of the optimiser.
    """

    step: jax.Array
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState


@dataclasses.dataclass(frozen=True)
class Model:
    """A model's structure, apart from its arrays.

    Attributes:
        name: a key of `MODELS`.
        arguments: sizes, as the module's constructor takes them, and the type the backbone computes in.
        graphdef: what `merge` puts together with arrays.
    """

    name: str
    arguments: Mapping[str, Any]
    graphdef: nnx.GraphDef

    def merge(self, params: Tree, batch_stats: Tree) -> Any:
        """Returns the module with the given arrays."""
        return nnx.merge(self.graphdef, params, batch_stats)

    def initial_arrays(self, seed: int) -> tuple[Tree, Tree]:
        """Returns initial parameters and batch statistics."""

        @jax.jit  # one program instead of one for every initialiser
        def init() -> tuple[Tree, Tree]:
            module = MODELS[self.name](**self.arguments, rngs=nnx.Rngs(seed))
            params, batch_stats = nnx.state(module, nnx.Param), nnx.state(module, nnx.BatchStat)
            return nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)

        return init()


def create_model(name: str, arguments: Mapping[str, Any], *, dtype: str) -> Model:
    """Returns the structure of a model.

    Args:
        name: a key of `MODELS`.
        arguments: sizes, as the module's constructor takes them.
        dtype: type the backbone computes in.
    """
    arguments = {**arguments, "dtype": jnp.dtype(dtype)}
    module = nnx.eval_shape(lambda: MODELS[name](**arguments, rngs=nnx.Rngs(0)))
    return Model(name, arguments, nnx.graphdef(module))


def create_state(params: Tree, batch_stats: Tree, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first update."""
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))
