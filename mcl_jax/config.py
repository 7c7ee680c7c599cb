"""Every config key with its meaning and default, and the blocks that the runs in configs/ share."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from mcl_jax.data.datasets import DATASETS, OPENERS
from mcl_jax.data.feed.augment import Augmentation
from mcl_jax.data.feed.sampling import FrameSampling
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.protocols import PROTOCOLS

NO_PROTOCOL = "none"
"""Value of `eval.protocol` that writes embeddings and scores nothing."""

PLAIN_AUGMENT = (("cut", 1.0),)
CASIAB_AUGMENT = (("cut", 1.0), ("rotate", 0.3), ("erase", 0.3))
OUTDOOR_AUGMENT = (("perspective", 0.2), ("cut", 1.0), ("flip", 0.2), ("rotate", 0.2))


def base_config() -> ConfigDict:
    """Returns every key there is; a run in configs/ changes what makes it different."""
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # weights to start from: a directory of ours or a PyTorch checkpoint; "" for none

    config.data = ConfigDict()
    config.data.dataset = "casiab"  # a key of mcl_jax.data.datasets.DATASETS
    config.data.root = ""  # folder of the dataset
    config.data.format = "tree"  # what it is: a tree of pkl files, or records made by prepare_data.py
    config.data.partition = ""  # JSON naming the subjects; "" for the dataset's own rule
    config.data.on_error = "raise"  # a sequence that cannot be read in training: raise, or skip it
    config.data.workers = 4  # processes that load batches; 0 loads in a thread of the main process
    config.data.augment = PLAIN_AUGMENT  # (transform, probability) in the order to apply them
    config.data.sampling = ConfigDict(dataclasses.asdict(FrameSampling("fixed_unordered")))

    config.model = ConfigDict()
    config.model.name = "gaitbase"  # gaitset, gaitbase or deepgaitv2
    config.model.channels = (64, 128, 256, 512)
    config.model.embed_dim = 256  # of gaitset and gaitbase; deepgaitv2 takes channels[2]
    config.model.num_classes = 0  # 0: as many as there are training subjects
    config.model.mode = "p3d"  # deepgaitv2: 2d, 3d or p3d
    config.model.layers = (1, 4, 4, 1)  # deepgaitv2: blocks of each stage
    config.model.use_emb2 = False  # deepgaitv2: embed with the BNNeck feature

    config.loss = ConfigDict()
    config.loss.metric = "mcl"  # mcl or triplet
    config.loss.margin = 0.6
    config.loss.gamma = 0.6  # of mcl
    config.loss.metric_weight = 1.0
    config.loss.ce_weight = 1.0  # 0 for a model without classifier
    config.loss.ce_scale = 16.0
    config.loss.label_smoothing = 0.1

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # sgd or adam
    config.optimizer.lr = 0.1
    config.optimizer.momentum = 0.9  # of sgd
    config.optimizer.weight_decay = 5e-4  # added to the gradient of every parameter
    config.optimizer.milestones = (20_000, 40_000, 50_000)  # first steps at a lower rate
    config.optimizer.gamma = 0.1  # factor on the rate at each milestone

    config.train = ConfigDict()
    config.train.steps = 60_000
    config.train.batch = (8, 16)  # P subjects × K sequences, over all devices
    config.train.precision = "bfloat16"  # what the backbone computes in: bfloat16 or float32
    config.train.log_every = 100
    config.train.save_every = 1_000
    config.train.keep = 3  # newest checkpoints kept
    config.train.test_every = 0  # 0: test only at the end

    config.eval = ConfigDict()
    config.eval.metric = "euc"  # distance: euc or cos
    config.eval.protocol = ""  # "" for the dataset's own, none for embeddings only
    config.eval.precision = "float32"
    config.eval.rows = 4  # a test batch is rows × slots frames
    config.eval.slots = 256
    config.eval.rerank = False  # k-reciprocal re-ranking
    return config.lock()


def steps(config: ConfigDict, total: int, *milestones: int) -> None:
    """Sets how many updates there are, and the first ones at a lower learning rate."""
    config.train.steps, config.optimizer.milestones = total, milestones


def unordered(config: ConfigDict, frames: int) -> None:
    """Sets clips of a fixed number of frames in random order."""
    config.data.sampling.mode = "fixed_unordered"
    config.data.sampling.frames = frames


def unfixed_unordered(config: ConfigDict, min_frames: int, max_frames: int) -> None:
    """Sets clips of a random number of frames in random order."""
    config.data.sampling.mode = "unfixed_unordered"
    config.data.sampling.min_frames = min_frames
    config.data.sampling.max_frames = max_frames


def ordered(config: ConfigDict, frames: int, *, skip: int, rates: tuple[int, int] = (1, 1)) -> None:
    """Sets clips of a fixed number of frames in order; `rates` wider than one value is interval sampling."""
    config.data.sampling.mode = "fixed_ordered"
    config.data.sampling.frames = frames
    config.data.sampling.skip = skip
    config.data.sampling.min_rate, config.data.sampling.max_rate = rates


def mcl(config: ConfigDict, *, weight: float, ce_weight: float) -> None:
    """Sets the Multi-view Consistency Loss of the published runs beside cross-entropy."""
    config.loss.metric, config.loss.margin, config.loss.gamma = "mcl", 0.6, 0.6
    config.loss.metric_weight, config.loss.ce_weight = weight, ce_weight


def triplet(config: ConfigDict, *, ce_weight: float = 1.0) -> None:
    """Sets the triplet loss beside cross-entropy; ce_weight = 0 for a model without classifier."""
    config.loss.metric, config.loss.margin = "triplet", 0.2
    config.loss.metric_weight, config.loss.ce_weight = 1.0, ce_weight


def gaitset(config: ConfigDict) -> None:
    """Sets GaitSet at its usual width with the triplet loss alone, on frames that are only cut."""
    config.model.name, config.model.channels = "gaitset", (32, 64, 128)
    config.data.augment = PLAIN_AUGMENT
    triplet(config, ce_weight=0.0)
    unordered(config, 30)


def deepgaitv2_p3d(config: ConfigDict) -> None:
    """Sets DeepGaitV2-P3D at its published size with triplet loss and cross-entropy."""
    config.model.name, config.model.mode = "deepgaitv2", "p3d"
    config.model.channels, config.model.layers = (64, 128, 256, 512), (1, 4, 4, 1)
    triplet(config)


def adam(config: ConfigDict, *, lr: float, weight_decay: float) -> None:
    """Sets Adam."""
    config.optimizer.name, config.optimizer.lr, config.optimizer.weight_decay = "adam", lr, weight_decay


def casiab(config: ConfigDict) -> None:
    """Sets what the GaitBase runs on CASIA-B share."""
    config.data.dataset, config.data.augment = "casiab", CASIAB_AUGMENT
    config.train.batch = (8, 16)
    unordered(config, 30)
    steps(config, 60_000, 20_000, 40_000, 50_000)


def gait3d(config: ConfigDict) -> None:
    """Sets what the runs on Gait3D share but for the frames of a clip."""
    config.data.dataset, config.data.augment = "gait3d", OUTDOOR_AUGMENT
    config.train.batch = (32, 4)
    steps(config, 60_000, 20_000, 40_000, 50_000)


def grew(config: ConfigDict) -> None:
    """Sets what the GaitBase runs on GREW share."""
    config.data.dataset, config.data.augment = "grew", OUTDOOR_AUGMENT
    config.train.batch = (32, 4)
    unfixed_unordered(config, 20, 40)
    steps(config, 180_000, 80_000, 120_000, 150_000)


def walkers(config: ConfigDict) -> None:
    """Sets a GaitBase and a training small enough for a CPU, on synthetic people."""
    config.data.dataset, config.data.workers = "walkers", 1
    config.data.augment = PLAIN_AUGMENT
    config.model.channels, config.model.embed_dim = (8, 16, 32, 64), 64
    config.train.batch, config.train.precision = (8, 8), "float32"
    config.train.log_every, config.train.save_every = 50, 100
    unordered(config, 4)
    steps(config, 600, 400, 540)


def frame_sampling(config: ConfigDict) -> FrameSampling:
    """Returns the checked frame sampling of a config."""
    return FrameSampling(**config.data.sampling)


def validate(config: ConfigDict) -> None:
    """Checks everything that can be checked without reading data.

    Raises:
        ConfigError: naming the first key that cannot work.
    """
    c = config
    _one_of("data.dataset", c.data.dataset, tuple(DATASETS))
    _one_of("data.format", c.data.format, tuple(OPENERS))
    _one_of("data.on_error", c.data.on_error, ("raise", "skip"))
    _one_of("model.name", c.model.name, ("gaitset", "gaitbase", "deepgaitv2"))
    _one_of("model.mode", c.model.mode, ("2d", "3d", "p3d"))
    _one_of("loss.metric", c.loss.metric, ("mcl", "triplet"))
    _one_of("optimizer.name", c.optimizer.name, ("sgd", "adam"))
    _one_of("eval.metric", c.eval.metric, ("euc", "cos"))
    _one_of("eval.protocol", c.eval.protocol, ("", NO_PROTOCOL, *PROTOCOLS))
    for key in ("train.precision", "eval.precision"):
        _one_of(key, _lookup(c, key), ("float32", "bfloat16"))

    stages = 3 if c.model.name == "gaitset" else 4
    _positive_integers("model.channels", c.model.channels, stages)
    _positive_integers("model.layers", c.model.layers, 4)
    _positive_integers("train.batch", c.train.batch, 2)
    _positive_integers("optimizer.milestones", c.optimizer.milestones, None)
    for key in (
        "model.embed_dim",
        "train.log_every",
        "train.save_every",
        "train.keep",
        "eval.rows",
        "eval.slots",
    ):
        if _lookup(c, key) < 1:
            raise ConfigError(f"{key}: is {_lookup(c, key)}; must be at least 1")
    for key in ("train.steps", "train.test_every", "data.workers", "model.num_classes", "seed"):
        if _lookup(c, key) < 0:
            raise ConfigError(f"{key}: is {_lookup(c, key)}; must not be negative")
    for key in (
        "loss.gamma",
        "loss.metric_weight",
        "loss.ce_weight",
        "optimizer.lr",
        "optimizer.weight_decay",
    ):
        if not _lookup(c, key) >= 0:
            raise ConfigError(f"{key}: is {_lookup(c, key)}; must not be negative")
    if not 0 <= c.loss.label_smoothing < 1:
        raise ConfigError(f"loss.label_smoothing: is {c.loss.label_smoothing}; must be in [0, 1)")
    if c.model.name == "gaitset" and c.loss.ce_weight:
        raise ConfigError("loss.ce_weight: gaitset has no classifier; set it to 0")
    frame_sampling(c)
    Augmentation(c.data.augment)


def _lookup(config: ConfigDict, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value[name]
    return value


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{key}: no {value!r}; there are {', '.join(known)}")


def _positive_integers(key: str, value: tuple[int, ...], length: int | None) -> None:
    if not all(type(n) is int and n > 0 for n in value) or length not in (None, len(value)):
        wanted = "" if length is None else f"{length} "
        raise ConfigError(f"{key}: is {value}; expected {wanted}positive whole numbers")


def model_arguments(model: ConfigDict, num_classes: int) -> dict[str, Any]:
    """Returns the constructor's arguments for the `model` block of a config."""
    chosen = {
        "gaitset": ("channels", "embed_dim"),
        "gaitbase": ("channels", "embed_dim"),
        "deepgaitv2": ("channels", "mode", "layers", "use_emb2"),
    }[model.name]
    arguments = {key: model[key] for key in chosen}
    return arguments if model.name == "gaitset" else arguments | {"num_classes": num_classes}
