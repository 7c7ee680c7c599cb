"""Tensors, sizes and settings of OpenGait's SwinGait."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.deepgaitv2 import stages
from mcl_jax.convert.opengait.pieces import (
    CLASSIFIER,
    Counterpart,
    StateDict,
    classes,
    count,
    output_channels,
    part_head,
    size,
    stage_widths,
)
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.models.swingait import GRID
from mcl_jax.ops.shifted_windows import position_index
from mcl_jax.utils.pytrees import ArrayTree, TreePath

_WIDTHS = (256, 512)
_NO_DECAY = ("patch_embed", "norm", "relative_position_bias_table")

# Parameters outside the transformer have a tenth of the learning rate; the transformer's norms, tokens and
# position tables have no weight decay.
_GROUPS = (
    ("^(stem|stages|head)/", 0.1, 1.0),
    ("^(tokens|norm)/|^windows/.*/(norm|table)", 1.0, 0.0),
)


def _entries(params: ArrayTree) -> Iterator[Entry]:
    yield from stages(params)
    yield Entry("transformer.patch_embed.proj.weight", "params", ("tokens", "kernel"), 5)
    yield Entry("transformer.patch_embed.proj.bias", "params", ("tokens", "bias"))
    yield from _layer_norm("transformer.patch_embed.norm", ("tokens", "norm"))
    for i, stage in sorted(params["windows"].items()):
        for j in sorted(stage):
            yield from _block(f"transformer.layers.{i}.blocks.{j}", ("windows", i, j))
        if i == 0:
            yield from _layer_norm("transformer.layers.0.downsample.0", ("widening", "norm"))
            weight = "transformer.layers.0.downsample.1.weight"
            yield Entry(weight, "params", ("widening", "linear", "kernel"), 2)
    yield from _layer_norm("transformer.norm", ("norm",))
    yield from part_head()


def _block(name: str, path: TreePath) -> Iterator[Entry]:
    yield from _layer_norm(f"{name}.norm1", (*path, "norm1"))
    inner = (*path, "attention")
    yield Entry(f"{name}.attn.relative_position_bias_table", "params", (*inner, "table"))
    index = position_index().astype(np.int64)
    yield Entry(f"{name}.attn.relative_position_index", None, constant=index)
    yield from _linear(f"{name}.attn.qkv", (*inner, "qkv"))
    yield from _linear(f"{name}.attn.proj", (*inner, "out"))
    yield from _layer_norm(f"{name}.norm2", (*path, "norm2"))
    yield from _linear(f"{name}.mlp.fc1", (*path, "widen"))
    yield from _linear(f"{name}.mlp.fc2", (*path, "narrow"))


def _linear(name: str, path: TreePath) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", "params", (*path, "kernel"), 2)
    yield Entry(f"{name}.bias", "params", (*path, "bias"))


def _layer_norm(name: str, path: TreePath) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", "params", (*path, "scale"))
    yield Entry(f"{name}.bias", "params", (*path, "bias"))


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    prefixes = ["layer1.forward_block.", "layer2."]
    blocks = [f"transformer.layers.{i}.blocks." for i in (0, 1)]
    parts = size(state_dict, CLASSIFIER, 0)
    return {
        "layers": tuple(count(state_dict, prefix) for prefix in (*prefixes, *blocks)),
        "channels": stage_widths(state_dict, prefixes),
        "widths": output_channels(
            state_dict, ["transformer.patch_embed.proj.weight", "transformer.layers.0.downsample.1.weight"]
        ),
        "parts": None if parts is None else parts - 1,
        "num_classes": size(state_dict, CLASSIFIER, 2),
    }


def _group(name: str) -> int:
    """Returns the number of a parameter's group in OpenGait's optimiser, 0 to 6."""
    if name.startswith("transformer."):
        return 0 if any(word in name for word in _NO_DECAY) else 1
    return 2 + ("FCs", "BNNecks", "layer0", "layer1", "layer2").index(name.split(".")[0])


def _settings(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    backbone = model.block("Backbone")
    backbone.must_be("in_channels", 1)
    backbone.must_be("mode", "p3d")
    layers, channels = backbone.numbers("layers", 4), backbone.numbers("channels", 2)
    backbone.end()
    model.must_be("bin_num", [GRID[0]])
    return {
        "layers": layers,
        "channels": channels,
        "widths": _WIDTHS,
        "parts": GRID[0],
        "num_classes": classes(model, _WIDTHS[0], GRID[0] + 1),
    }


COUNTERPART = Counterpart(
    title="SwinGait",
    marks=("transformer.patch_embed.proj.weight",),
    entries=_entries,
    sizes=_sizes,
    block=_settings,
    group=_group,
    groups=_GROUPS,
    own_schedule=True,
)
