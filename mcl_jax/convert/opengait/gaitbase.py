"""Tensors, sizes and settings of OpenGait's GaitBase: `Baseline` with `ResNet9`, or `Plain` for HID."""

from collections.abc import Iterator, Mapping
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
from mcl_jax.convert.opengait.plain import ROOT, plain_channels, plain_entries, plain_stages
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.models.gaitbase import PLAIN, POOLINGS
from mcl_jax.utils.pytrees import ArrayTree

_ROOT = "Backbone.forward_block"
_STAGES = (1, 2, 3, 4)
_PLAIN_MARK = f"{ROOT}.0.conv.weight"
_PLAIN_BINS = (16, 8, 4, 2, 1)
# Defaults of OpenGait's ResNet9.
_RESNET9 = {"channels": [32, 64, 128, 256], "layers": [1, 2, 2, 1], "strides": [1, 2, 2, 1]}


def _entries(params: ArrayTree) -> Iterator[Entry]:
    if PLAIN in params:
        yield from plain_entries((PLAIN,), len(params[PLAIN]), POOLINGS)
        yield from part_head()
        return
    yield from conv_norm(f"{_ROOT}.conv1.conv", f"{_ROOT}.bn1", ("stem",))
    for i, block in sorted(params["stages"].items()):
        yield from basic_block(f"{_ROOT}.layer{i + 1}.0", ("stages", i), block)
        for j, more in sorted(params.get("rest", {}).get(i, {}).items()):
            yield from basic_block(f"{_ROOT}.layer{i + 1}.{j + 1}", ("rest", i, j), more)
    yield from part_head()


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    head = {
        "embed_dim": size(state_dict, "FCs.fc_bin", 2),
        "num_classes": size(state_dict, CLASSIFIER, 2),
    }
    if _PLAIN_MARK in state_dict:
        channels = plain_channels(state_dict, POOLINGS)
        return {"backbone": PLAIN, "channels": channels, "layers": (1, 1, 1, 1), **head}
    prefixes = [f"{_ROOT}.layer{i}." for i in _STAGES]
    return {
        "backbone": "resnet9",
        "channels": stage_widths(state_dict, prefixes),
        "layers": tuple(count(state_dict, prefix) for prefix in prefixes),
        **head,
    }


def _published_bins(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the bins of the published run with this backbone, if they are not the defaults."""
    return {"bins": _PLAIN_BINS} if sizes["backbone"] == PLAIN else {}


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    backbone = model.block("backbone_cfg")
    kind = backbone.take("type", str)
    if kind not in ("ResNet9", "Plain"):
        raise backbone.refused("type", kind, "mcl_jax has ResNet9 and Plain")
    block = _plain(backbone) if kind == "Plain" else _resnet9(backbone)
    backbone.end()
    bins = model.numbers("bin_num")
    embed_dim = fcs(model, block["channels"][-1], sum(bins))
    number = classes(model, embed_dim, sum(bins))
    return {**block, "bins": bins, "embed_dim": embed_dim, "num_classes": number}


def _plain(backbone: Settings) -> dict[str, Any]:
    backbone.must_be("in_channels", 1)
    words = backbone.take("layers_cfg", list)
    stages = plain_stages(words, POOLINGS)
    if stages is None or len(stages) != len(_STAGES) or any(strips > 1 for _, strips in stages):
        raise backbone.refused(
            "layers_cfg",
            words,
            "mcl_jax has four stages of two equal convolutions BC-c, and an M behind the first three",
        )
    return {"backbone": PLAIN, "channels": tuple(channels for channels, _ in stages)}


def _resnet9(backbone: Settings) -> dict[str, Any]:
    backbone.must_be("block", "BasicBlock")
    backbone.must_be("in_channel", 1)
    block: dict[str, Any] = {"max_pool": backbone.take("maxpool", bool, True)}
    for key, there in _RESNET9.items():
        backbone.values.setdefault(key, there)
        block[key] = backbone.numbers(key, 4)
        if min(block[key]) < 1:
            raise backbone.refused(key, block[key], "each stage needs blocks, channels and a stride")
    return block


COUNTERPART = Counterpart(
    title="Baseline",
    marks=(f"{_ROOT}.conv1.conv.weight", _PLAIN_MARK),
    without=("TFA.",),  # GaitPart also has plain convolutions
    entries=_entries,
    sizes=_sizes,
    block=_block,
    untold=("strides", "max_pool", "bins"),
    guess=_published_bins,
)
