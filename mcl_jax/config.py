"""Config keys with their meanings and defaults, and the recipes of the published runs."""

import dataclasses
import importlib.util
import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mcl_jax.data.datasets import DATASETS, OPENERS, require_frames
from mcl_jax.data.feed.augment import Augmentation
from mcl_jax.data.feed.loaders import train_row_shapes_of
from mcl_jax.data.feed.sampling import MAX_TEST_FRAMES, FrameSampling
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.protocol_file import SUFFIX, find_protocol
from mcl_jax.evaluation.protocols import PROTOCOLS
from mcl_jax.loggers.registry import check_loggers
from mcl_jax.losses import LOSSES
from mcl_jax.losses import PROVIDED as LOSS_PROVIDED
from mcl_jax.losses.total import WEIGHT, check_losses, complete_losses
from mcl_jax.models.registry import PROVIDED as MODEL_PROVIDED
from mcl_jax.models.registry import check_block, complete_block, model_class
from mcl_jax.training.optimizers import OPTIMIZERS, PROVIDED, SCHEDULES
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.own_modules import make_importable
from mcl_jax.utils.signatures import brief, check_arguments, lookup, required_arguments, with_defaults

NO_PROTOCOL = "none"
"""Value of `eval.protocol` that writes embeddings and scores nothing."""

TEST_PRECISIONS = ("", "float32", "bfloat16", "float16")
"""Types that a model may compute in when testing; "" is for `runtime.testing_precision`.

float16 is for testing alone: its range is too small for gradients.
"""

_PACKAGE = Path(__file__).resolve().parent
# In a wheel the recipes lie in the package, in a checkout beside it.
_RECIPE_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")

_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "init_from": "",  # weights to start from: a run, a file, or a published name; "" for none
    "data": {
        "dataset": "casiab",  # a key of mcl_jax.data.datasets.DATASETS
        "root": "",  # folder of the dataset
        "format": "",  # tree of pkl files, or records made by prepare_data.py; "" finds out
        "file": "",  # the pkl file: a pattern such as *-sil.pkl, or its number; "" for the dataset's own rule
        "partition": "",  # JSON naming the subjects; "" for the dataset's own rule
        "on_error": "raise",  # a sequence that cannot be read: raise, or skip it, in a test too
        "workers": 4,  # processes that load batches; 0 loads in a thread of the main process
        "timeout": 300,  # seconds without a batch after which hanging workers are replaced, once; 0: never
        "augment": (("cut", 1.0),),  # (transform, probability), or with {parameter: value}, in their order
        "sampling": dataclasses.asdict(FrameSampling("fixed_unordered")),
    },
    "train": {
        "steps": 60_000,
        "batch": (8, 16),  # P subjects × K sequences, over all devices
        "precision": "bfloat16",  # what the backbone computes in: bfloat16 or float32
        "row_sizes": 5,  # most sizes of rows for drawn lengths, each a compilation when first needed
        "accumulate": 1,  # chunks of a batch, one after the other in memory, with the whole batch's losses
        "ema": 0.0,  # decay of weights averaged over training, tested and saved beside the trained; 0: none
        "remat": False,  # compute activations within blocks again for the gradient: less memory
        "keep_classifier": False,  # of init_from, where it is of the same people; known for runs
        "fit_partly": False,  # take of init_from what fits, of another model, too; the rest is listed
        "freeze_batch_norm": False,  # train with the running statistics of init_from, which stay as they are
        "log_every": 100,
        "save_every": 1_000,
        "keep": 3,  # newest checkpoints kept
        "keep_every": 0,  # those of every so many steps are kept too; 0: none
        "keep_best": "",  # and the best in the tests of test_every, by NM/Rank-1 for instance
        "test_every": 0,  # 0: test only at the end
        "loggers": ("tensorboard",),  # who gets the figures: tensorboard, wandb, mlflow; () for none
        "on_nonfinite": "stop",  # an update that is not finite: stop, or skip it
        "max_skipped": 10,  # with skip: the most updates in a row that are left out before the run stops
    },
    "eval": {
        "metric": "euc",  # distance: euc or cos
        "protocol": "",  # "" for the dataset's own, none for embeddings only
        "step": 0,  # of mcl-jax test: the checkpoint in workdir of this step, not init_from or the newest
        "precision": "",  # float32, bfloat16 or float16; "" for float32 on a CPU, float16 on a GPU
        "max_frames": MAX_TEST_FRAMES,  # frames of a sequence that count, its first
        "rows": 4,  # a test batch is rows × slots frames
        "slots": 256,
        "rerank": False,  # k-reciprocal re-ranking
        "explain": 0,  # worst confusions that get a page of their own: by part, by frame and by pixel
    },
}

# Key → its least and its greatest value. Above the greatest, memory, processes or time run out, or a number
# is no longer told from a smaller one: JAX takes 32 bits of a seed, and counts steps in 31.
_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "data.workers": (0, 512),
    "data.timeout": (0, 10_000_000),
    "data.sampling.frames": (1, 10_000),
    "data.sampling.min_frames": (1, 10_000),
    "data.sampling.max_frames": (1, 10_000),
    "data.sampling.skip": (0, 10_000),
    "data.sampling.min_rate": (1, 10_000),
    "data.sampling.max_rate": (1, 10_000),
    "train.steps": (0, 1_000_000_000),
    "train.row_sizes": (1, 100),
    "train.accumulate": (1, 65_536),
    "train.ema": (0, 0.999_999),
    "train.log_every": (1, 1_000_000_000),
    "train.save_every": (1, 1_000_000_000),
    "train.keep": (1, 1_000_000_000),
    "train.keep_every": (0, 1_000_000_000),
    "train.test_every": (0, 1_000_000_000),
    "train.max_skipped": (1, 1_000_000_000),
    "eval.step": (0, 1_000_000_000),
    "eval.max_frames": (1, 1_000_000),
    "eval.rows": (1, 65_536),
    "eval.slots": (1, 65_536),
    "eval.explain": (0, 100),
    "optimizer.lr": (0, float(np.finfo(np.float32).max)),
}
_MOST_TRAINING_FRAMES = 2**22  # of a batch, 12 GB; a published one has up to 6,400
_MOST_TEST_FRAMES = 2**20

_NAMED = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}


def make_config(**blocks: Any) -> ConfigDict:
    """Returns a whole config: the given keys, and the defaults of all others.

    Args:
        **blocks: `seed`, `init_from`, and these blocks, each a dict of keys:
            `data`, `train`, `eval`: keys as in `_DEFAULTS` above;
            `model`: `name`, a key of `mcl_jax.models.MODELS`, and arguments of its constructor;
            `loss`: losses by name, keys of `mcl_jax.losses.LOSSES`, each a dict of `weight` and arguments;
            `optimizer`: `name`, a key of `mcl_jax.training.optimizers.OPTIMIZERS`, `lr`, and arguments of it;
            `schedule`: `name`, a key of `mcl_jax.training.optimizers.SCHEDULES`, and arguments of it.

    Raises:
        ConfigError: if there is no such key.
    """
    named = {
        "model": complete_block(blocks.pop("model")),
        "loss": complete_losses(blocks.pop("loss")),
        "optimizer": _complete_named("optimizer", {"lr": 0.1} | blocks.pop("optimizer", {"name": "sgd"})),
        "schedule": _complete_named("schedule", blocks.pop("schedule", {"name": "multi_step"})),
    }
    plain = _filled("", _DEFAULTS, blocks)
    return ConfigDict(plain | named).lock()


def add_parts(config: ConfigDict, given: Mapping[str, Any]) -> None:
    """Adds the losses that keys give a weight, and exchanges an optimiser, schedule or model by its name.

    A part that comes new has its own defaults where no key says otherwise; the learning rate stays.

    Args:
        config: changed in place; keys of parts that it has already are left as they are.
        given: dotted key → value, all keys that are to be set.

    Raises:
        ConfigError: if there is no such part, it lacks an argument it needs, or a new loss has no weight.
    """
    blocks: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        block, _, argument = key.rpartition(".")
        blocks.setdefault(block, {})[argument] = value
    with config.unlocked():
        for block, arguments in blocks.items():
            kind, _, name = block.partition(".")
            if kind == "loss" and name and name not in config.loss:
                config.loss[name] = _new_loss(name, arguments)
            elif block in ("model", *_NAMED) and _is_another(arguments.get("name"), config[block].name):
                config[block] = _new_part(block, config[block], arguments)


def _is_another(name: Any, before: str) -> bool:
    return isinstance(name, str) and name != before


def _new_loss(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    function = lookup("loss", LOSSES, name).function
    if WEIGHT not in given:
        raise ConfigError(
            f"loss.{name}: the config has no such loss; --config.loss.{name}.{WEIGHT}=1 would add it"
        )
    return complete_losses({name: _required(function, LOSS_PROVIDED, given)})[name]


def _new_part(block: str, before: ConfigDict, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the block of another model, optimiser or schedule."""
    name = given["name"]
    if block == "model":
        return complete_block({"name": name, **_required(model_class(name), MODEL_PROVIDED, given)})
    function = lookup(f"{block}.name", _NAMED[block], name)
    rate = {"lr": before.lr} if block == "optimizer" else {}
    return _complete_named(block, {"name": name, **rate, **_required(function, PROVIDED[block], given)})


def _required(
    function: Callable[..., Any], provided: Collection[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the given arguments that have no default; of the others the default tells the type."""
    return {key: given[key] for key in required_arguments(function, provided) if key in given}


def recipes() -> dict[str, Path]:
    """Returns the recipes that come with the package: name → file."""
    folder = next((folder for folder in _RECIPE_FOLDERS if folder.is_dir()), _RECIPE_FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}


def recipe_path(name: str) -> Path:
    """Returns the file of a recipe.

    Args:
        name: of a recipe that comes with the package, or the path of a file of one's own.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    found = recipes()
    if name in found:
        return found[name]
    raise ConfigError(f"config: no file {name!r}, and no recipe of that name; there are {', '.join(found)}")


def load_config(name: str) -> ConfigDict:
    """Returns the config of a recipe, to be used or changed.

    Args:
        name: of a recipe that comes with the package, or the path of a file of one's own with a function
            `get_config`, which may import modules that lie beside it.

    Raises:
        ConfigError: if there is none, or it is no recipe.
    """
    path = recipe_path(name)
    if path.resolve().parent not in (folder.resolve() for folder in _RECIPE_FOLDERS):
        make_importable(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config: {name!r} is no Python file; mcl-jax takes an OpenGait YAML, too")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"config: {name!r} has no function get_config()")
    return module.get_config()


def validate(config: ConfigDict) -> None:
    """Checks everything that can be checked without reading data.

    Raises:
        ConfigError: naming the first key that cannot work.
    """
    c = config
    lookup("data.dataset", DATASETS, c.data.dataset)
    lookup("data.format", OPENERS, c.data.format)
    for key, known in (
        ("data.on_error", ("raise", "skip")),
        ("train.on_nonfinite", ("stop", "skip")),
        ("train.precision", ("float32", "bfloat16")),
        ("eval.precision", TEST_PRECISIONS),
        ("eval.metric", ("euc", "cos")),
    ):
        lookup(key, dict.fromkeys(known), _value(c, key))
    if c.eval.protocol.endswith(SUFFIX):
        find_protocol(c.eval.protocol)  # its mistakes are told before training, not after
    else:
        lookup("eval.protocol", dict.fromkeys(("", NO_PROTOCOL, *PROTOCOLS)), c.eval.protocol)
    check_loggers(c.train.loggers)
    for key, limits in _LIMITS.items():
        _check_limits(key, _value(c, key), *limits)
    if c.train.keep_best and not c.train.test_every:
        raise ConfigError("train.keep_best: needs tests on the way; set train.test_every")
    kind = model_class(c.model.name)
    check_block(model_block(config))
    check_losses(c.loss.to_dict(), c.model.name, kind)
    for block, table in _NAMED.items():
        arguments = named_arguments(config, block)
        check_arguments(block, c[block].name, table[c[block].name], arguments, PROVIDED[block])
    sampling = frame_sampling(config)
    _check_augmentation(config)
    require_frames(c.data.dataset, c.model.name, kind.frame_shape(model_block(config)))
    _check_batches(config, sampling)


def _check_limits(key: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key}: is {brief(value)}; expected a number")
    if least <= value <= most:
        return
    raise ConfigError(f"{key}: is {brief(value)}; must be from {least:,} to {most:,.15g}")


def _check_augmentation(config: ConfigDict) -> None:
    """Checks the transforms of clips, also that none blends the pixels of frames that must not be blended."""
    blending = Augmentation(config.data.augment).blending
    if blending and DATASETS[config.data.dataset].pixels.labels:
        raise ConfigError(
            f"data.augment: {', '.join(blending)} would blend the numbers of neighbouring body parts, which "
            f"the maps of {config.data.dataset} hold; take it out"
        )


def _check_batches(config: ConfigDict, sampling: FrameSampling) -> None:
    """Checks that a batch is one, and not larger than any memory."""
    batch = config.train.batch
    if len(batch) != 2 or not all(type(n) is int and n > 0 for n in batch):
        raise ConfigError(f"train.batch: is {brief(batch)}; expected 2 positive whole numbers")
    longest = max(sampling.frames, sampling.max_frames)
    if math.prod(batch) * longest > _MOST_TRAINING_FRAMES:
        raise ConfigError(
            f"train.batch: {brief(batch)} clips of up to {longest} frames are more than the "
            f"{_MOST_TRAINING_FRAMES:,} frames that a batch may have; lower it, or data.sampling"
        )
    _check_chunks(config, sampling)
    if config.eval.rows * config.eval.slots > _MOST_TEST_FRAMES:
        raise ConfigError(
            f"eval.rows: {config.eval.rows} rows of {config.eval.slots} slots are more than the "
            f"{_MOST_TEST_FRAMES:,} frames that a test batch may have; lower it, or eval.slots"
        )


def _check_chunks(config: ConfigDict, sampling: FrameSampling) -> None:
    """Checks that the chunks of a batch have equally many rows."""
    batch, chunks = config.train.batch, config.train.accumulate
    shape = train_row_shapes_of(batch, sampling, 1, model_class(config.model.name).SPACING)[-1]
    if shape.rows % chunks:
        packed = f", {shape.segments} to a row" if shape.segments > 1 else ""
        raise ConfigError(
            f"train.accumulate: is {chunks}, which does not divide the {shape.rows} rows of a batch of "
            f"{batch[0]} × {batch[1]} clips{packed}; set it to a divisor of {shape.rows}"
        )


def write_config(config: ConfigDict, path: Path) -> None:
    """Writes a config as JSON, for the record; only the first host does."""
    if jax.process_index() == 0:
        content = json.dumps(json.loads(config.to_json_best_effort()), indent=1)
        write_atomically(path, content.encode())


def model_block(config: ConfigDict) -> dict[str, Any]:
    """Returns the model that a config names, with all its arguments.

    Raises:
        ConfigError: if there is no such model, or it has not one of the arguments.
    """
    return complete_block(config.model.to_dict())


def frame_sampling(config: ConfigDict) -> FrameSampling:
    """Returns the checked frame sampling of a config."""
    return FrameSampling(**config.data.sampling)


def named_arguments(config: ConfigDict, block: str) -> dict[str, Any]:
    """Returns the arguments that a config gives to its optimiser or schedule, which `block` says.

    Raises:
        ConfigError: if there is none of that name.
    """
    lookup(f"{block}.name", _NAMED[block], config[block].name)
    shared = {"name", "lr"}
    return {key: value for key, value in config[block].items() if key not in shared}


def _complete_named(block: str, given: Mapping[str, Any]) -> dict[str, Any]:
    name = given["name"]
    function = lookup(f"{block}.name", _NAMED[block], name)
    shared = {key: given[key] for key in ("name", "lr") if key in given}
    own = {key: value for key, value in given.items() if key not in shared}
    return shared | with_defaults(block, name, function, own, PROVIDED[block])


def _filled(where: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    for key in given:
        if key not in defaults:
            raise ConfigError(f"there is no config key {where + key!r}; there are {', '.join(defaults)}")
    return {
        key: _filled(f"{where}{key}.", value, given.get(key, {}))
        if isinstance(value, dict)
        else given.get(key, value)
        for key, value in defaults.items()
    }


def _value(config: ConfigDict, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value[name]
    return value
