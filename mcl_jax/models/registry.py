"""A model's structure, without its arrays; and trained arrays with the model they belong to."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mcl_jax.errors import ConfigError
from mcl_jax.models import MODELS
from mcl_jax.models.base import GaitModule
from mcl_jax.utils.digest import hash_arrays
from mcl_jax.utils.pytrees import ArrayTree, leaves_by_name
from mcl_jax.utils.signatures import check_arguments, config_arguments, lookup, with_defaults
from mcl_jax.utils.spacing import Spacing
from mcl_jax.utils.strips import Strip

PROVIDED = ("dtype", "rngs")
"""Arguments of a model's constructor that are not config keys."""

_MOST_PARAMETERS = 2**32  # 16 GB, and training takes four times that; a published model has 25 million


@dataclasses.dataclass(frozen=True)
class Model:
    """A model's structure, without its arrays.

    Attributes:
        name: a key of `MODELS`.
        arguments: sizes, as the module's constructor takes them.
        dtype: type the backbone computes in.
        graphdef: Flax graph definition, which `merge` combines with arrays.
    """

    name: str
    arguments: Mapping[str, Any]
    dtype: str
    graphdef: nnx.GraphDef

    @property
    def spacing(self) -> Spacing:
        """The spacing that it needs between sequences in a row."""
        return MODELS[self.name].SPACING

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of the frames that it takes."""
        return MODELS[self.name].frame_shape(self.arguments)

    @property
    def strips(self) -> tuple[Strip, ...]:
        """Where each part of its embedding lies in a frame; empty if the model does not say."""
        return MODELS[self.name].part_strips(self.arguments)

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers in training."""
        return MODELS[self.name].DRAWS

    @property
    def block(self) -> dict[str, Any]:
        """Its `model` block, as checkpoints store it: name and arguments, plain values."""
        return plain_block({"name": self.name, **self.arguments})

    def merge(self, params: ArrayTree, batch_stats: ArrayTree, **settings: bool) -> Any:
        """Returns the module with the given arrays.

        Args:
            params: its parameters.
            batch_stats: its running statistics.
            settings: static attributes, set on all modules that have them: `remat`, `frozen`,
                `portable`, `whole_rows`, `keeps_frames`.
        """
        module = nnx.merge(self.graphdef, params, batch_stats)
        module.set_attributes(raise_if_not_found=False, **settings)
        return module

    def initial_arrays(
        self, seed: int, compiler_options: dict[str, Any] | None = None
    ) -> tuple[ArrayTree, ArrayTree]:
        """Returns initial parameters and batch statistics.

        Args:
            seed: random seed.
            compiler_options: options for `jax.jit`.
        """

        def init() -> tuple[ArrayTree, ArrayTree]:
            return _arrays(_construct(self.name, self.arguments, self.dtype, seed))

        # One program instead of one for every initialiser.
        return jax.jit(init, compiler_options=compiler_options)()

    def shapes(self) -> tuple[ArrayTree, ArrayTree]:
        """Returns the shapes of parameters and batch statistics, without making arrays."""
        return jax.eval_shape(lambda: _arrays(_construct(self.name, self.arguments, self.dtype, 0)))


@dataclasses.dataclass(frozen=True)
class Weights:
    """The trained arrays of a model, and its name and arguments.

    Attributes:
        block: the `model` block that makes the model: its name and all its arguments.
        params: trained parameters, NumPy.
        batch_stats: running statistics, NumPy.
        step: number of updates that made them.
        source: where they were read from, as text.
        uncounted_batches: batches that an imported PyTorch model counted beyond `step`.
        thresholds: of a packed model: false-accept rate of one comparison → largest Euclidean distance to
            accept; empty if unknown.
        recipe: config of the run that trained it, plain values without paths; empty if unknown.
    """

    block: dict[str, Any]
    params: ArrayTree
    batch_stats: ArrayTree
    step: int
    source: str
    uncounted_batches: int = 0
    thresholds: Mapping[float, float] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def create_model(name: str, arguments: Mapping[str, Any], *, dtype: str) -> Model:
    """Returns the structure of a model.

    Args:
        name: a key of `MODELS`.
        arguments: sizes, as the module's constructor takes them; missing ones get their defaults.
        dtype: type the backbone computes in.

    Raises:
        ConfigError: if there is no such model, or an argument is invalid; it names the config key.
    """
    block = complete_block({"name": name, **arguments})
    check_block(block)
    if block.get("num_classes") == 0:
        raise ConfigError("model.num_classes: is 0, and the number of training subjects is not known here")
    sizes = _arguments(block)
    return Model(name, sizes, dtype, _graphdef(name, tuple(sizes.items()), dtype))


def model_of(block: Mapping[str, Any], *, dtype: str) -> Model:
    """Returns the structure of the model that a `model` block names.

    Raises:
        ConfigError: as `create_model`.
    """
    return create_model(block["name"], _arguments(block), dtype=dtype)


def complete_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a `model` block with all arguments of its model; missing ones get their defaults.

    Raises:
        ConfigError: if the model or an argument is unknown.
    """
    kind = model_class(block["name"])
    classes = {} if kind.CLASSIFIER is None else {"num_classes": 0}
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in _arguments(block).items()}
    return {"name": block["name"], **with_defaults("model", block["name"], kind, classes | given, PROVIDED)}


def check_block(block: Mapping[str, Any]) -> None:
    """Checks the arguments of a complete `model` block; 0 classes mean a number not known yet.

    Raises:
        ConfigError: naming the first invalid key.
    """
    arguments = _arguments(block)
    if arguments.get("num_classes") == 0:
        arguments["num_classes"] = 1
    kind = model_class(block["name"])
    check_arguments("model", block["name"], kind, arguments, PROVIDED)
    kind.check(arguments)


def model_class(name: str) -> type[GaitModule]:
    """Returns the class of a model.

    Raises:
        ConfigError: if there is no such model.
    """
    try:
        return lookup("model.name", MODELS, name)
    except ConfigError as error:
        raise ConfigError(f"{error}; import the module of one of your own: --import MODULE") from None


def added_arguments(name: str) -> dict[str, Any]:
    """Returns the arguments added to a model later (`GaitModule.ADDED`), with their defaults.

    Raises:
        ConfigError: if there is no such model.
    """
    kind = model_class(name)
    return {key: config_arguments(kind, PROVIDED)[key] for key in kind.ADDED}


def plain_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a `model` block as read back from JSON: with lists instead of tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in block.items()}


def digest_of(model: Model, params: ArrayTree, batch_stats: ArrayTree) -> str:
    """Returns the SHA-256 of a model: name, sizes and all numbers except the classifier's."""
    return _digest(model.name, model.arguments, params, batch_stats)


def digest_of_weights(block: Mapping[str, Any], params: ArrayTree, batch_stats: ArrayTree) -> str:
    """Returns `digest_of` of the model that a `model` block names, with its arrays on the host.

    Raises:
        ConfigError: see `complete_block`.
    """
    return _digest(block["name"], _arguments(complete_block(block)), params, batch_stats)


def _digest(name: str, arguments: Mapping[str, Any], params: ArrayTree, batch_stats: ArrayTree) -> str:
    digest = hashlib.sha256(name.encode())
    added = added_arguments(name)
    kept = {
        key: value
        for key, value in arguments.items()
        if key != "num_classes" and not (key in added and value == added[key])
    }
    digest.update(json.dumps(kept, sort_keys=True).encode())
    left_out = "/".join(map(str, ("params", *(model_class(name).CLASSIFIER or ()))))
    for tree, prefix in ((params, "params"), (batch_stats, "batch_stats")):
        leaves = {f"{prefix}/{name}": leaf for name, leaf in leaves_by_name(tree).items()}
        hash_arrays(digest, {name: leaf for name, leaf in leaves.items() if name != left_out})
    return digest.hexdigest()


def differing(block: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the keys of two `model` blocks whose values differ, with both values.

    For different models only the names are compared. 0 classes match any number.
    """
    if block["name"] != other["name"]:
        return {"name": (block["name"], other["name"])}
    ours, theirs = complete_block(block), complete_block(other)
    return {
        key: (ours[key], theirs[key])
        for key in ours
        if ours[key] != theirs[key] and not (key == "num_classes" and 0 in (ours[key], theirs[key]))
    }


def describe_differences(differences: Mapping[str, tuple[Any, Any]], here: str, there: str) -> str:
    """Describes the result of `differing`: "model.mode is 2d in the config and 3d in the file"."""
    return "; ".join(
        f"model.{key} is {_text(ours)} in {here} and {_text(theirs)} in {there}"
        for key, (ours, theirs) in differences.items()
    )


def _text(value: Any) -> str:
    return "(" + ",".join(map(str, value)) + ")" if isinstance(value, list | tuple) else str(value)


def _arguments(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "name"}


def _construct(name: str, arguments: Mapping[str, Any], dtype: str, seed: int) -> GaitModule:
    constructor: Callable[..., GaitModule] = MODELS[name]
    return constructor(**arguments, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(seed))


@functools.cache  # a run needs the same model for training and testing
def _graphdef(name: str, arguments: tuple[tuple[str, Any], ...], dtype: str) -> nnx.GraphDef:
    """Returns the structure of a model without making arrays.

    Raises:
        ConfigError: if it has more parameters than the limit.
    """
    module = nnx.eval_shape(functools.partial(_construct, name, dict(arguments), dtype, 0))
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
    if numbers > _MOST_PARAMETERS:
        raise ConfigError(
            f"model: {name} of these sizes has {numbers:.3g} parameters, but the limit is "
            f"{_MOST_PARAMETERS:,}; lower its channels, layers or classes"
        )
    return nnx.graphdef(module)


def _arrays(module: GaitModule) -> tuple[ArrayTree, ArrayTree]:
    params, batch_stats = nnx.state(module, nnx.Param), nnx.state(module, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)
