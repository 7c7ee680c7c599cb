"""DeepGaitV2 as OpenGait's FoundationGait fine-tunes it."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from mcl_jax.convert.mapping import STEPS_SUFFIX, Entry
from mcl_jax.convert.opengait.deepgaitv2 import backbone_sizes, stages
from mcl_jax.convert.opengait.pieces import (
    CLASSIFIER,
    Counterpart,
    StateDict,
    classes,
    fcs,
    norm,
    part_head,
    size,
)
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.utils.pytrees import ArrayTree

_BACKBONE = "teacher_backbone."
_STUDENT = "student_backbone."  # the other network of pre-training, which is not used afterwards


def _entries(params: ArrayTree) -> Iterator[Entry]:
    parts, features, _ = params["projector"]["fcs1"]["kernel"].shape
    for entry in (*stages(params), *_projector(), *_predictor(parts, features)):
        yield dataclasses.replace(entry, name=f"{_BACKBONE}{entry.name}")
    if "head" in params:  # a pre-trained model has none
        yield from part_head()


def _projector() -> Iterator[Entry]:
    for i in (0, 1):
        yield Entry(f"projector.{3 * i}.fc_bin", "params", ("projector", f"fcs{i + 1}", "kernel"))
        yield from norm(f"projector.{3 * i + 1}.bn1d", ("projector", f"norm{i + 1}"))


def _predictor(parts: int, features: int) -> Iterator[Entry]:
    """Yields the tensors of the two linear maps that only pre-training uses."""

    def unused(name: str, half: Literal["params", "batch_stats"], value: float, *shape: int) -> Entry:
        constant = np.broadcast_to(np.float32(value), shape)
        return Entry(f"predictor.{name}", None, constant=constant, unused=half)

    yield unused("0.fc_bin", "params", 0, parts, features, features)
    yield unused("1.bn1d.weight", "params", 1, parts * features)
    yield unused("1.bn1d.bias", "params", 0, parts * features)
    yield unused("1.bn1d.running_mean", "batch_stats", 0, parts * features)
    yield unused("1.bn1d.running_var", "batch_stats", 1, parts * features)
    count = Entry(f"predictor.1.bn1d.{STEPS_SUFFIX}", None, constant=np.array(0), unused="batch_stats")
    yield count
    yield unused("3.fc_bin", "params", 0, parts, features, features)


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    backbone = {
        name.removeprefix(_BACKBONE): tensor
        for name, tensor in state_dict.items()
        if name.startswith(_BACKBONE)
    }
    return {
        **backbone_sizes(backbone),
        "embed_dim": size(state_dict, "FCs.fc_bin", 2),
        "num_classes": size(state_dict, CLASSIFIER, 2),
    }


def _group(name: str) -> int:
    """Returns the place of a parameter's group among OpenGait's groups, if none has a rate of 0."""
    names = (*(f"layer{i}" for i in range(5)), "projector", "predictor", "FCs", "BNNecks")
    return names.index(name.removeprefix(_BACKBONE).split(".")[0])


def _settings(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # changes nothing
    backbone = model.block("Backbone")
    backbone.must_be("in_channels", 1)
    mode = backbone.take("mode", str)
    layers, channels = backbone.numbers("layers", 4), backbone.numbers("channels", 4)
    backbone.end()
    bins = model.numbers("bin_num")
    parts = sum(bins)
    model.must_be("parts_num", parts)
    embed_dim = fcs(model, channels[3], parts)
    return {
        "mode": mode,
        "layers": layers,
        "channels": channels,
        "bins": bins,
        "embed_dim": embed_dim,
        "crops": model.numbers("crop_list"),
        "num_classes": classes(model, embed_dim, parts),
    }


def _rates(model: Settings) -> dict[str, float]:
    """Takes the rates of the backbone's layers and of the projector out; 0 freezes a layer."""
    rates = model.take("backbone_lr", list)
    if len(rates) != 5 or not all(isinstance(rate, int | float) and rate >= 0 for rate in rates):
        raise model.refused("backbone_lr", rates, "expected the rates of layer0 to layer4")
    patterns = ("^stem/", *(f"^stages/{i}/" for i in range(4)))
    projector = float(model.take("projector_lr", (float, int)))
    return {**dict(zip(patterns, map(float, rates), strict=True)), "^projector/": projector}


COUNTERPART = Counterpart(
    title="FoundationGait_Scaling_Finetune",
    marks=(f"{_BACKBONE}layer0.forward_block.0.weight",),
    entries=_entries,
    sizes=_sizes,
    block=_settings,
    untold=("bins",),
    head=f"{_BACKBONE}projector.0.fc_bin",
    group=_group,
    rates=_rates,
    pretrained_beside=_STUDENT,
)
