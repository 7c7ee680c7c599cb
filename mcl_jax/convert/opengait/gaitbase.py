"""Tensors, sizes and settings of OpenGait's GaitBase: `Baseline` with the backbone `ResNet9`."""

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
    fcs,
    part_head,
    size,
    stage_widths,
)
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.utils.pytrees import ArrayTree

_ROOT = "Backbone.forward_block"
_STAGES = (1, 2, 3, 4)
# Defaults of OpenGait's ResNet9.
_RESNET9 = {"channels": [32, 64, 128, 256], "layers": [1, 2, 2, 1], "strides": [1, 2, 2, 1]}


def _entries(params: ArrayTree) -> Iterator[Entry]:
    yield from conv_norm(f"{_ROOT}.conv1.conv", f"{_ROOT}.bn1", ("stem",))
    for i, block in sorted(params["stages"].items()):
        yield from basic_block(f"{_ROOT}.layer{i + 1}.0", ("stages", i), block)
        for j, more in sorted(params.get("rest", {}).get(i, {}).items()):
            yield from basic_block(f"{_ROOT}.layer{i + 1}.{j + 1}", ("rest", i, j), more)
    yield from part_head()


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    prefixes = [f"{_ROOT}.layer{i}." for i in _STAGES]
    return {
        "channels": stage_widths(state_dict, prefixes),
        "layers": tuple(count(state_dict, prefix) for prefix in prefixes),
        "embed_dim": size(state_dict, "FCs.fc_bin", 2),
        "num_classes": size(state_dict, CLASSIFIER, 2),
    }


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    backbone = model.block("backbone_cfg")
    backbone.must_be("type", "ResNet9")
    backbone.must_be("block", "BasicBlock")
    backbone.must_be("in_channel", 1)
    block: dict[str, Any] = {"max_pool": backbone.take("maxpool", bool, True)}
    for key, there in _RESNET9.items():
        backbone.values.setdefault(key, there)
        block[key] = backbone.numbers(key, 4)
        if min(block[key]) < 1:
            raise backbone.refused(key, block[key], "each stage needs blocks, channels and a stride")
    backbone.end()
    bins = model.numbers("bin_num")
    embed_dim = fcs(model, block["channels"][-1], sum(bins))
    number = classes(model, embed_dim, sum(bins))
    return {**block, "bins": bins, "embed_dim": embed_dim, "num_classes": number}


COUNTERPART = Counterpart(
    title="Baseline",
    marks=(f"{_ROOT}.conv1.conv.weight",),
    entries=_entries,
    sizes=_sizes,
    block=_block,
    untold=("strides", "max_pool", "bins"),
)
