"""Tensors, sizes and settings of OpenGait's GaitGL."""

from collections.abc import Iterator
from typing import Any

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.pieces import (
    CLASSIFIER,
    Counterpart,
    StateDict,
    classes,
    conv,
    norm,
    output_channels,
    size,
)
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.models.gaitgl import PARTS
from mcl_jax.utils.pytrees import ArrayTree

_STAGES = ("GLConvA0", "GLConvA1", "GLConvB2")
_LARGE = ("OUMVLP", "GREW")  # datasets for which OpenGait builds the large form
_HEAD = ("head", "classifier", "kernel")


def _entries(params: ArrayTree) -> Iterator[Entry]:
    for i in sorted(params["stem"]):
        yield from conv(f"conv3d.{2 * i}.conv3d", ("stem", i), axes=5)
    yield from conv("LTA.0.conv3d", ("aggregation",), axes=5)
    for i, stage in sorted(params["stages"].items()):
        for j in sorted(stage):
            name = _STAGES[i] if len(stage) == 1 else f"{_STAGES[i]}.{j}"
            yield from conv(f"{name}.global_conv3d.conv3d", ("stages", i, j, "whole"), axes=5)
            yield from conv(f"{name}.local_conv3d.conv3d", ("stages", i, j, "local"), axes=5)
    yield Entry("HPP.p", "params", ("gem", "p"))
    yield Entry("Head0.fc_bin", "params", ("head", "fcs", "kernel"))
    if "norm" in params["head"]:
        yield from norm("Bn", ("head", "norm"))
        yield Entry("Head1.fc_bin", "params", _HEAD)
    else:
        yield Entry(CLASSIFIER, "params", _HEAD)
        yield from norm("BNNecks.bn1d", ("head", "classifier", "norm"))


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    large, necks = "conv3d.2.conv3d.weight" in state_dict, CLASSIFIER in state_dict
    stages = [f"{name}.0" for name in _STAGES] if large else _STAGES[:2]
    kernels = ["conv3d.0.conv3d.weight", *(f"{name}.global_conv3d.conv3d.weight" for name in stages)]
    return {
        "form": "large" if large else "small",
        "channels": output_channels(state_dict, kernels),
        "necks": necks,
        "num_classes": size(state_dict, CLASSIFIER if necks else "Head1.fc_bin", 2),
    }


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    form, wanted = ("large", 4) if dataset in _LARGE else ("small", 3)
    channels = model.numbers("channels", wanted)
    number = model.take("class_num", int)
    necks = "SeparateBNNecks" in model.values
    if necks and (in_necks := classes(model, channels[-1], PARTS)) != number:
        raise model.refused("class_num", number, f"but {in_necks} in SeparateBNNecks; use the same")
    return {"form": form, "channels": channels, "necks": necks, "num_classes": number}


COUNTERPART = Counterpart(
    title="GaitGL",
    marks=("LTA.0.conv3d.weight",),
    entries=_entries,
    sizes=_sizes,
    block=_block,
)
