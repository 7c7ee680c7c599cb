"""Public Python API: load a trained model, embed walks with it, train one.

`import mcl_jax` is the way in; see there for the names.
"""

import dataclasses
import functools
import html
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict

from mcl_jax.config import TEST_PRECISIONS, add_parts, load_config, validate
from mcl_jax.convert.safetensors_reader import SUFFIX as SAFETENSORS
from mcl_jax.data.datasets import DATASETS
from mcl_jax.data.feed.augment import cut
from mcl_jax.data.feed.sampling import MAX_TEST_FRAMES
from mcl_jax.data.prepare.single_walk import read_walk
from mcl_jax.data.sequences import Split
from mcl_jax.data.stores.frames import SILHOUETTES, Pixels
from mcl_jax.embed import Embedder
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.models.registry import Model, Weights, digest_of, model_class, model_of
from mcl_jax.ops.cpu import kernels
from mcl_jax.runtime.settings import enable_compilation_cache, testing_precision
from mcl_jax.train_loop import train as train_config
from mcl_jax.utils.pytrees import ArrayTree, count_numbers
from mcl_jax.utils.signatures import lookup
from mcl_jax.weights.card import Card
from mcl_jax.weights.load import fit, is_average, load_weights, run_of
from mcl_jax.weights.model_file import write_model
from mcl_jax.weights.pretrained import push_folder, write_folder
from mcl_jax.weights.provenance import measured
from mcl_jax.workdir.checkpoints import AVERAGE
from mcl_jax.workdir.test_folder import TEST_FOLDER

Walk = np.ndarray | str | Path
"""One walk: silhouettes uint8 [s, 64, 64 or 44], or a path: of a pkl, a folder of PNG frames, or a video."""

T = TypeVar("T")

_ROWS, _SLOTS = 4, 256  # of an ordinary batch, as in the config's `eval` block


class Gait:
    """A trained model, ready to embed walks.

    Attributes:
        name: which model, a key of `mcl_jax.models.MODELS`.
        arguments: its sizes, as its constructor takes them.
        parts: parts of an embedding.
        channels: numbers of each part.
        parameters: how many trained numbers the model has.
        step: training steps behind them.
        source: where they were read from.
        precision: what the backbone computes in.
        frame_shape: rows and columns of its frames after they are cut: (64, 44) but for HID's baseline.
        thresholds: of a packed model, as the one in the package: false-accept rate of one comparison, a share
            → the largest Euclidean distance to accept, measured on synthetic people; empty for others.
        recipe: config of the run that trained it, plain values without paths; empty where it is not known.
    """

    def __init__(self, weights: Weights, *, precision: str = "", use_emb2: bool | None = None):
        """Builds the model that the weights say they are of; `mcl_jax.load` reads them."""
        self._embedder, self._arrays = _build(weights, precision, use_emb2)
        model = self._embedder.model
        self.name, self.arguments, self.precision = model.name, dict(model.arguments), model.dtype
        self.frame_shape = model.frame_shape
        self.step, self.source = weights.step, weights.source
        self.thresholds, self.recipe = dict(weights.thresholds), dict(weights.recipe)
        self._uncounted_batches = weights.uncounted_batches
        self.parameters = count_numbers(weights.params)
        self.parts, self.channels = self._embedder.embedding_shape(*self._arrays)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over model, sizes and all numbers but the classifier's: it decides the embeddings."""
        return digest_of(self._embedder.model, *self._arrays)

    def embed(self, walks: Walk | Sequence[Walk], *, track: str | None = None) -> np.ndarray:
        """Returns the embeddings of walks, in their order.

        Args:
            walks: one walk or any number of them, of any mix of lengths, each an array of silhouettes uint8
                [s, 64, 64 or 44], a pkl file of one, a folder of PNG frames, which are prepared on the way
                as for the published runs, or a video of one person, whose silhouettes are taken as
                `mcl-jax silhouettes` does. The first 720 frames of a walk count, as in the reference. A model
                of another `frame_shape` takes larger frames, and no videos.
            track: of videos with several people, the one to take, such as "person-001".

        Returns:
            float32 [n, parts, channels].

        Raises:
            ConfigError: if the model was trained on parsing maps.
            DataError: if a walk is empty, of another shape or type, or cannot be read, or several people
                walk in a video and `track` does not choose.
        """
        self._require_silhouettes()
        alone = isinstance(walks, str | Path) or (isinstance(walks, np.ndarray) and walks.ndim == 3)
        several: Sequence[Walk] = [walks] if alone else walks  # type: ignore[list-item, assignment] # mypy does not see `alone` narrow
        if len(several) == 0:
            return np.empty((0, self.parts, self.channels), np.float32)
        pixels = dataclasses.replace(SILHOUETTES, height=self.frame_shape[0])
        return self._embedder.embed(
            *self._arrays, (_silhouettes(walk, i, track, pixels) for i, walk in enumerate(several))
        )

    def embed_split(self, split: Split, *, workers: int = 0) -> EmbeddingSet:
        """Embeds all sequences of a split of a dataset, to be scored.

        Args:
            split: from `open_dataset(…).test_split()`.
            workers: processes that read the sequences; 0 reads in a thread of this one.

        Raises:
            ConfigError: if the model takes frames of another size.
            DataError: if a sequence cannot be read.
        """
        return self._embedder.embed_split(*self._arrays, split, workers=workers)

    def compile_all(self) -> int:
        """Compiles all that `embed` can need, so that no later call waits; returns how many programs."""
        return self._embedder.compile_all(*self._arrays)

    def save(self, path: str | Path) -> None:
        """Writes the model as one safetensors file, which `mcl_jax.load` reads.

        Model, sizes, step and recipe are in its notes, with a digest.

        Args:
            path: ends in .safetensors.

        Raises:
            ConfigError: if it does not; `mcl-jax convert --to-torch` writes OpenGait's formats.
            UserError: if it cannot be written.
        """
        if Path(path).suffix != SAFETENSORS:
            raise ConfigError(
                f"{path}: give a name that ends in {SAFETENSORS}; OpenGait's .pt: mcl-jax convert --to-torch"
            )
        write_model(path, self._weights())

    def save_pretrained(self, folder: str | Path, *, licence: str = "") -> None:
        """Writes the model as a folder for others, which `mcl_jax.load` reads: with a card made from its run.

        Args:
            folder: gets model.safetensors, config.json and the card, README.md. The card has the recipe and,
                of a run, the figures of its test, if that was of these weights.
            licence: an identifier such as "mit" or "cc-by-nc-4.0"; "" leaves it to be filled in.

        Raises:
            ConfigError: if the licence is no identifier, or the folder has a README.md already.
            UserError: if a file cannot be written.
        """
        test = TEST_FOLDER + f"-{AVERAGE}" * is_average(self.source)
        metrics = measured(run_of(self.source)[0] / test / "metrics.json", self.digest)
        card = Card(self._weights(), self.parts, self.channels, self.digest, metrics, licence)
        write_folder(Path(folder), card)

    def push_to_hub(
        self, repository: str, *, folder: str | Path | None = None, licence: str = "", private: bool = True
    ) -> str:
        """Uploads the model to the Hugging Face Hub; returns its name there, which `mcl_jax.load` takes.

        Args:
            repository: OWNER/REPO, made if it is not there.
            folder: one that `save_pretrained` wrote and whose card was filled in; None for a new one.
            licence: as of `save_pretrained`; a card without one is refused.
            private: whether a new repository is seen by its owner alone.

        Raises:
            ConfigError: if the card names no licence.
            CheckpointError: if it cannot be uploaded.
            MissingExtraError: if the extra `hub` is not installed.
        """
        if folder is not None:
            return push_folder(Path(folder), repository, private=private)
        with tempfile.TemporaryDirectory() as new:
            self.save_pretrained(new, licence=licence)
            return push_folder(Path(new), repository, private=private)

    def _weights(self) -> Weights:
        params, batch_stats = jax.device_get(self._arrays)
        block, uncounted = self._embedder.model.block, self._uncounted_batches
        return Weights(
            block, params, batch_stats, self.step, self.source, uncounted, self.thresholds, self.recipe
        )

    def program(self, make: Callable[[Model, ArrayTree, ArrayTree], T]) -> T:
        """Calls a function with the model in float32, its parameters and its statistics; returns its result.

        Args:
            make: called with the arrays on one device.

        Raises:
            ConfigError: if the model was trained on parsing maps: a program takes silhouettes.
        """
        self._require_silhouettes()
        model = self._embedder.model
        arrays = jax.device_put(jax.device_get(self._arrays), jax.local_devices()[0])
        return make(model_of(model.block, dtype="float32"), *arrays)

    def _require_silhouettes(self) -> None:
        data = self.recipe.get("data")
        name = data.get("dataset") if isinstance(data, Mapping) else None
        if isinstance(name, str) and name in DATASETS and DATASETS[name].pixels.labels:
            raise ConfigError(
                f"{self.source}: was trained on the parsing maps of {name}, and this takes silhouettes; for "
                f"maps there is embed_split, with mcl_jax.open_dataset({name!r}, …)"
            )

    def _facts(self) -> dict[str, str]:
        sizes = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return {
            "model": f"{self.name}({sizes})",
            "embedding": f"{self.parts} parts × {self.channels} channels",
            "parameters": f"{self.parameters:,}",
            "trained": f"{self.step:,} steps",
            "from": self.source,
            "precision": self.precision,
        }

    def __repr__(self) -> str:
        return "Gait\n" + "\n".join(f"  {key:<10}  {value}" for key, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in self._facts().items()
        )
        return f"<table>{rows}</table>"


def load(
    path: str | Path | None = None, *, precision: str = "", use_emb2: bool | None = None, **untold: Any
) -> Gait:
    """Loads a trained model; its kind and sizes are read from the file.

    Args:
        path: the workdir of a run, whose newest undamaged checkpoint is taken (with @average behind it, its
            weights averaged over training, see `train.ema`), a PyTorch checkpoint of OpenGait, a file or
            folder that `Gait.save` or `Gait.save_pretrained` wrote, or a model packed by
            scripts/pack_model.py. Or what is fetched from elsewhere and kept: a published checkpoint by the
            name of its recipe, such as "gait3d_mcl" (`mcl-jax pretrained` lists them),
            "hf://OWNER/REPO/PATH[@REVISION]", "hf://OWNER/REPO" for what
            `Gait.push_to_hub` put there, or an https address.
            Nothing in it is executed, and PyTorch is not needed. None for the model that comes with the
            package, which was trained on synthetic people alone; docs/model_card.md says what it is worth.
        precision: what the backbone computes in, "float32", "bfloat16" or "float16"; by default float32 on a
            CPU and float16 on a GPU.
        use_emb2: of DeepGaitV2: whether the embedding is the BNNeck feature; None for as it was trained.
        **untold: arguments of the model that no tensor of a PyTorch checkpoint tells: `strides`, `max_pool`
            and `bins` of GaitBase, `bins` of GaitSet. A line says where those of the published models are
            taken.

    Raises:
        CheckpointError: if there is no such checkpoint, it is damaged, of a model that we do not have, or
            cannot be fetched.
        ConfigError: if the precision is unknown, the model has no such argument, or the file tells another
            value of it.
    """
    enable_compilation_cache()
    kernels.prepare()
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in untold.items()}
    weights = load_weights(path, given)
    for key, value in given.items():
        if key not in weights.block:
            raise ConfigError(f"{key}: {weights.block['name']} has no such argument")
        told = weights.block[key]
        if (tuple(told) if isinstance(told, list) else told) != value:
            raise ConfigError(f"{key}: is {value!r}, and {weights.source} says {told!r}")
    return Gait(weights, precision=precision, use_emb2=use_emb2)


def train(
    config: str | Path | ConfigDict,
    workdir: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    accept_changes: bool = False,
) -> dict[str, Any]:
    """Trains from the newest checkpoint in workdir, or from the start, then tests.

    Args:
        config: the name of a recipe such as "grew_mcl", the path of one, or a config from `load_config`.
        workdir: gets checkpoints/, test/, stretches.jsonl and folders of loggers, such as tensorboard/.
        overrides: keys to change, such as {"data.root": "GREW-pkl", "train.steps": 100}; the weight of a loss
            that the config has not, such as {"loss.triplet.weight": 1.0}, adds it.
        accept_changes: whether a run may go on with a config that differs in what matters.

    Returns:
        The metrics of the test at the end, as in metrics.json.

    Raises:
        UserError: for anything the user can mend: config, data, checkpoints, a loss that is not finite.
    """
    if not isinstance(config, ConfigDict):
        config = load_config(str(config))
    config = config.copy_and_resolve_references().lock()  # a ConfigDict of one would share its blocks
    add_parts(config, overrides or {})
    for key, value in (overrides or {}).items():
        try:
            config.update_from_flattened_dict({key: value})
        except KeyError:
            raise ConfigError(f"overrides: there is no config key {key!r}") from None
        except TypeError as error:
            raise ConfigError(f"overrides: {key}: {str(error).splitlines()[0]}") from None
    validate(config)
    enable_compilation_cache()
    kernels.prepare()
    return train_config(config, Path(workdir), accept_changes=accept_changes)


def _build(weights: Weights, precision: str, use_emb2: bool | None) -> tuple[Embedder, tuple[Any, Any]]:
    lookup("precision", dict.fromkeys(TEST_PRECISIONS), precision)
    block, name = dict(weights.block), weights.block["name"]
    if use_emb2 is not None:
        if "use_emb2" not in model_class(name).CHOICES:
            raise ConfigError(f"use_emb2: {name} has no other embedding to choose")
        block["use_emb2"] = use_emb2
    model = model_of(block, dtype=testing_precision(precision))
    embedder = Embedder(model, rows=_ROWS, slots=_SLOTS)
    return embedder, embedder.put(*fit(weights, model, *model.shapes()))


def _silhouettes(walk: Walk, position: int, track: str | None, pixels: Pixels) -> np.ndarray:
    """Returns the frames [s, *pixels.frame_shape] of a walk that count.

    Raises:
        DataError: naming the walk.
    """
    if isinstance(walk, str | Path):
        frames = _of_path(Path(walk), track, pixels)
    elif isinstance(walk, np.ndarray):
        frames = pixels.check(walk, f"walk {position}")
    else:
        raise DataError(
            f"walk {position}: is a {type(walk).__name__}; expected silhouettes uint8 [s, 64, 64 or 44], a "
            "pkl file, a folder of PNG frames or a video"
        )
    return cut(frames[:MAX_TEST_FRAMES])


def _of_path(path: Path, track: str | None, pixels: Pixels) -> np.ndarray:
    if path.is_file() and path.suffix.lower() != ".pkl":
        if pixels != SILHOUETTES:
            raise DataError(
                f"{path}: is taken for a video, which gives frames of {SILHOUETTES.height} rows, but this "
                f"model takes {pixels.height}; give a pkl file, a folder of PNG frames or an array"
            )
        from mcl_jax.footage.choice import only_walk_in  # only for videos: it opens what OpenCV has for them

        return only_walk_in(path, track, choice="track=…").silhouettes
    return read_walk(path, pixels)
