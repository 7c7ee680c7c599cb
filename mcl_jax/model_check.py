"""Checks that a user's model meets the requirements of `GaitModule`, before it is trained."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mcl_jax.data.feed.packing import EMPTY
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.exporting.embedding_function import EMBEDDING, FRAMES, any_length, embedding_program
from mcl_jax.models import MODELS
from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.registry import Model, create_model
from mcl_jax.utils.pytrees import ArrayTree, leaves_by_name
from mcl_jax.utils.spacing import Spacing
from mcl_jax.utils.terminal import count

_LENGTHS = (3, 5, 2, 4)  # of the test clips, two to a row
_PER_ROW = 2
_CLASSES = 3
_KEYS = 8  # a single one might drop nothing
_MAX_EMPTY = 16  # up to this number of empty slots between neighbours is tried
_TOLERANCE = 1e-4  # of the largest number of an embedding
_numbers = itertools.count()


def check_model(kind: type[GaitModule], **arguments: Any) -> list[str]:
    """Checks a model class for packing, empty slots, gradients and export; as slow as compiling it.

        for line in mcl_jax.check_model(MyModel, channels=(8, 16)):
            print(line)

    Args:
        kind: the class of the model; it need not be in `mcl_jax.models.MODELS`.
        **arguments: arguments of its constructor; choose small sizes. The default of num_classes is 3.

    Returns:
        A line for each check that passed.

    Raises:
        UserError: if a check fails; the message says what to do.
        ConfigError: if an argument is invalid.
    """
    name = next((name for name, known in MODELS.items() if known is kind), None)
    if name is not None:
        return _check(name, kind, arguments)
    name = f"{kind.__name__} {next(_numbers)}"  # unique, because structures are cached by name
    MODELS[name] = kind
    try:
        return _check(name, kind, arguments)
    finally:
        del MODELS[name]


def _check(name: str, kind: type[GaitModule], arguments: dict[str, Any]) -> list[str]:
    if kind.CLASSIFIER is not None:
        arguments = {"num_classes": _CLASSES} | arguments
    model = create_model(name, arguments, dtype="float32")
    params, batch_stats = model.initial_arrays(0)
    # Changed, because the statistics and biases of a new model (0 and 1) could hide mistakes.
    params = jax.tree.map(lambda x: x + 0.01 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
    batch_stats = jax.tree.map(lambda x: x + 0.1 * jnp.arange(x.size).reshape(x.shape) / x.size, batch_stats)
    checks = (
        _packed_is_alone(model, kind, params, batch_stats),
        _empty_slots_do_not_count(model, kind, params, batch_stats),
        _draws_do_not_depend_on_rows(model, kind, params, batch_stats),
        _gradients_reach_everything(model, kind, params, batch_stats),
        _exported_is_the_same(model, kind, params, batch_stats),
    )
    return list(itertools.chain.from_iterable(checks))


def _clips(model: Model) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, *model.frame_shape), np.uint8) for length in _LENGTHS]


def _rows(
    clips: list[np.ndarray], spacing: Spacing, per_row: int = _PER_ROW, filling: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Packs clips into rows with a model's spacing; empty slots are filled with a grey level."""
    rows = [clips[i : i + per_row] for i in range(0, len(clips), per_row)]
    slots = max(sum(spacing.taken(len(clip)) for clip in row) for row in rows)
    frames = np.full((len(rows), slots, *clips[0].shape[1:]), filling, np.uint8)
    ids = np.full((len(rows), slots), EMPTY, np.int32)
    for row, members in enumerate(rows):
        start = 0
        for segment, clip in enumerate(members):
            here = slice(start, start + len(clip))
            frames[row, here], ids[row, here] = clip, segment
            start += spacing.taken(len(clip))
    return frames, ids


def _run(
    model: Model, params: ArrayTree, batch_stats: ArrayTree, frames: np.ndarray, ids: np.ndarray
) -> GaitOutput:
    segments = int(ids.max()) + 1

    @jax.jit
    def embed(params: ArrayTree, batch_stats: ArrayTree, frames: jax.Array, ids: jax.Array) -> GaitOutput:
        module = model.merge(params, batch_stats)
        output: GaitOutput = module(frames, ids, num_segments=segments, train=False)
        return output

    return jax.device_get(embed(params, batch_stats, frames, ids))


def _packed_is_alone(
    model: Model, kind: type[GaitModule], params: ArrayTree, batch_stats: ArrayTree
) -> Iterator[str]:
    alone = [_run(model, params, batch_stats, *_rows([clip], kind.SPACING, 1)) for clip in _clips(model)]
    for output in alone:
        x = output.embeddings
        if x.ndim != 3 or x.shape[0] != 1 or not np.isfinite(x).all():
            raise UserError(
                f"{kind.__name__}: embeddings of one walk are {x.dtype} {list(x.shape)}; expected finite "
                "numbers [rows · num_segments, parts, channels]"
            )
    expected = np.concatenate([output.embeddings for output in alone])

    def error(spacing: Spacing) -> float:
        packed = _run(model, params, batch_stats, *_rows(_clips(model), spacing))
        if packed.embeddings.shape != expected.shape or not np.all(packed.present):
            raise UserError(
                f"{kind.__name__}: two rows of two walks give {list(packed.embeddings.shape)}, present "
                f"{np.asarray(packed.present).tolist()}; expected {list(expected.shape)} and all present"
            )
        return float(np.abs(packed.embeddings - expected).max() / np.abs(expected).max())

    off = error(kind.SPACING)
    if off > _TOLERANCE:
        wider = (dataclasses.replace(kind.SPACING, empty=n) for n in range(1, _MAX_EMPTY + 1))
        enough = next((spacing.empty for spacing in wider if error(spacing) <= _TOLERANCE), None)
        remedy = (
            f"with {count(enough, 'empty slot')} between neighbours they are equal: set SPACING = "
            f"Spacing(empty={enough})"
            if enough
            else "no number of empty slots helps: use segment_ids to pool over frames of one sequence only"
        )
        raise UserError(
            f"{kind.__name__}: embeddings of packed sequences differ from those of single ones by {off:.2g} "
            f"of the largest number; {remedy}"
        )
    gap = count(kind.SPACING.empty, "empty slot")
    yield f"packed sequences have the same embeddings as single ones, within {off:.1g}, with {gap} in between"


def _train_output(
    model: Model,
    params: ArrayTree,
    batch_stats: ArrayTree,
    frames: np.ndarray,
    ids: np.ndarray,
    **drawn: jax.Array,
) -> tuple[Any, ArrayTree]:
    """Returns the output of a model in training mode, and its updated batch statistics."""
    module = model.merge(params, batch_stats)
    output = module(jnp.asarray(frames), jnp.asarray(ids), num_segments=_PER_ROW, train=True, **drawn)
    return output, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


def _empty_slots_do_not_count(
    model: Model, kind: type[GaitModule], params: ArrayTree, batch_stats: ArrayTree
) -> Iterator[str]:
    for filling in (0, 255):
        frames, ids = _rows(_clips(model), kind.SPACING, filling=filling)
        output, statistics = jax.device_get(
            jax.jit(lambda *arrays: _train_output(model, *arrays))(params, batch_stats, frames, ids)
        )
        found = {"embeddings": output.embeddings} | leaves_by_name(statistics)
        if filling == 0:
            expected = found
    for name, array in found.items():
        scale = max(float(np.abs(expected[name]).max()), 1e-6)
        if float(np.abs(array - expected[name]).max()) > _TOLERANCE * scale:
            raise UserError(
                f"{kind.__name__}: in training, {name} depends on the content of empty slots; leave them out "
                "by segment_ids, as the layers of mcl_jax.models.layers do"
            )
    yield "in training, nothing depends on the content of empty slots"


def _draws_do_not_depend_on_rows(
    model: Model, kind: type[GaitModule], params: ArrayTree, batch_stats: ArrayTree
) -> Iterator[str]:
    """Adds an empty row to a batch, as several devices do to share its rows evenly."""
    if not kind.DRAWS:
        return

    @jax.jit
    def embed(frames: np.ndarray, ids: np.ndarray, key: jax.Array) -> jax.Array:
        output, _ = _train_output(model, params, batch_stats, frames, ids, key=key)
        embeddings: jax.Array = output.embeddings[: len(_LENGTHS)]
        return embeddings

    frames, ids = _rows(_clips(model), kind.SPACING)
    more = np.append(frames, 0 * frames[:1], axis=0), np.append(ids, 0 * ids[:1] + EMPTY, axis=0)
    for key in jax.random.split(jax.random.key(0), _KEYS):
        expected, found = jax.device_get((embed(frames, ids, key), embed(*more, key)))
        if np.abs(found - expected).max() > _TOLERANCE * np.abs(expected).max():
            raise UserError(
                f"{kind.__name__}: numbers drawn for a sequence in training depend on the number of rows, "
                "which is rounded up to one of devices; draw with a key of each sequence, such as "
                "jax.random.fold_in(key, row * num_segments + segment)"
            )
    yield "numbers drawn for a sequence do not depend on the number of rows"


def _gradients_reach_everything(
    model: Model, kind: type[GaitModule], params: ArrayTree, batch_stats: ArrayTree
) -> Iterator[str]:
    frames, ids = _rows(_clips(model), kind.SPACING)

    def loss(params: ArrayTree) -> jax.Array:
        output, _ = _train_output(model, params, batch_stats, frames, ids)
        present = [x for x in (output.embeddings, output.logits) if x is not None]
        # Weighted, because the sum of squares after a normalisation would not depend on the parameters.
        weights = [jnp.cos(jnp.arange(x.size)).reshape(x.shape) for x in present]
        return sum((jnp.square(x + w).sum() for x, w in zip(present, weights, strict=True)), jnp.float32(0))

    gradients = leaves_by_name(jax.device_get(jax.jit(jax.grad(loss))(params)))
    wrong = [name for name, gradient in gradients.items() if not np.isfinite(gradient).all()]
    if wrong:
        raise UserError(f"{kind.__name__}: the gradient of {wrong[0]} is not finite")
    unreached = [name for name, gradient in gradients.items() if not np.any(gradient)]
    if unreached:
        raise UserError(
            f"{kind.__name__}: no gradient reaches {len(unreached)} of {len(gradients)} parameters, such as "
            f"{unreached[0]}: it is not used, or its gradient is stopped"
        )
    yield f"gradients are finite and reach all {len(gradients)} parameters"


def _exported_is_the_same(
    model: Model, kind: type[GaitModule], params: ArrayTree, batch_stats: ArrayTree
) -> Iterator[str]:
    program, side = embedding_program(model, params, batch_stats), model.frame_shape[0]
    frames = np.random.default_rng(1).integers(0, 2, (7, side, side), np.uint8) * np.uint8(255)
    expected = np.asarray(jax.jit(program)(frames))
    try:
        exported = jax.export.export(jax.jit(program), platforms=("cpu",))(any_length(side))
    # Operations that need a fixed length raise many kinds of errors.
    except Exception as error:
        raise UserError(
            f"{kind.__name__}: cannot be exported for any number of frames: {str(error).splitlines()[0]:.200}"
        ) from None
    if not np.allclose(np.asarray(exported.call(frames)), expected, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise UserError(f"{kind.__name__}: after export, the embeddings differ")
    yield "exported as StableHLO for any number of frames, the embeddings are the same"
    try:
        from mcl_jax.exporting.graph import onnx_model

        onnx_model(program, any_length(side), (FRAMES, EMBEDDING))
    except ImportError:  # the extra `export` is not installed
        return
    except ConfigError as error:
        yield f"cannot be exported as ONNX: {error}"
