"""Tensors, sizes and settings of OpenGait's DeepGaitV2."""

from collections.abc import Iterator
from typing import Any

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.pieces import (
    CLASSIFIER,
    Counterpart,
    StateDict,
    basic_block,
    classes,
    conv_norm,
    count,
    part_head,
    shortcut,
    size,
    stage_widths,
)
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.utils.pytrees import ArrayTree, TreePath


def stages(params: ArrayTree) -> Iterator[Entry]:
    """Yields the tensors of a stem and the stages after it."""
    yield from conv_norm("layer0.forward_block.0", "layer0.forward_block.1", ("stem",))
    for i, stage in sorted(params["stages"].items()):
        for j, block in sorted(stage.items()):
            path = ("stages", i, j)
            if "temporal" in block:
                yield from _p3d_block(f"layer{i + 1}.{j}", path, block)
            elif block["conv1"]["conv"]["kernel"].ndim == 5:
                yield from basic_block(f"layer{i + 1}.{j}", path, block, axes=5)
            else:
                yield from basic_block(f"layer{i + 1}.forward_block.{j}", path, block)


def _entries(params: ArrayTree) -> Iterator[Entry]:
    yield from stages(params)
    yield from part_head()


def _p3d_block(name: str, path: TreePath, block: ArrayTree) -> Iterator[Entry]:
    for i in (1, 2):
        inner = f"{name}.conv{i}.forward_block"
        yield from conv_norm(f"{inner}.0", f"{inner}.1", (*path, f"conv{i}"))
    yield from conv_norm(f"{name}.shortcut3d", f"{name}.sbn", (*path, "temporal"), axes=5)
    yield from shortcut(name, path, block, axes=5)


def backbone_sizes(state_dict: StateDict) -> dict[str, Any]:
    """Returns mode, layers and channels of the stages."""
    if any(name.startswith("layer2.forward_block.") for name in state_dict):
        mode, inner = "2d", "forward_block."
    elif any(name.endswith(".shortcut3d.weight") for name in state_dict):
        mode, inner = "p3d", ""
    else:
        mode, inner = "3d", ""
    prefixes = ["layer1.forward_block.", *(f"layer{i}.{inner}" for i in (2, 3, 4))]
    return {
        "mode": mode,
        "layers": tuple(count(state_dict, prefix) for prefix in prefixes),
        "channels": stage_widths(state_dict, prefixes),
    }


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    return {**backbone_sizes(state_dict), "num_classes": size(state_dict, CLASSIFIER, 2)}


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    backbone = model.block("Backbone")
    backbone.must_be("in_channels", 1)
    mode = backbone.take("mode", str)
    layers, channels = backbone.numbers("layers", 4), backbone.numbers("channels", 4)
    backbone.end()
    return {
        "mode": mode,
        "layers": layers,
        "channels": channels,
        "num_classes": classes(model, channels[2]),
        "use_emb2": model.take("use_emb2", bool, False),
    }


COUNTERPART = Counterpart(
    title="DeepGaitV2",
    marks=("layer0.forward_block.0.weight",),
    without=("transformer.",),
    entries=_entries,
    sizes=_sizes,
    block=_block,
)
