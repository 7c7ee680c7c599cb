"""Tensors, sizes and settings of OpenGait's GaitPart."""

from collections.abc import Iterator, Mapping
from typing import Any

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.pieces import Counterpart, StateDict, fcs, size
from mcl_jax.convert.opengait.plain import plain_channels, plain_entries, plain_stages
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.models.gaitpart import PARTS, POOLINGS
from mcl_jax.utils.pytrees import ArrayTree

_BRANCHES = {"short": "TFA.pooling_func.conv1d3x1", "long": "TFA.pooling_func.conv1d3x3"}


def _entries(params: ArrayTree) -> Iterator[Entry]:
    yield from plain_entries(("stages",), len(params["stages"]), POOLINGS)
    yield Entry("Head.fc_bin", "params", ("fcs", "kernel"))
    for branch, name in _BRANCHES.items():
        for part in range(PARTS):
            for place, i in ((0, 1), (2, 2)):
                path = (branch, f"conv{i}", "kernel")
                yield Entry(f"{name}.{part}.{place}.conv.weight", "params", path, kernel_axes=3, part=part)


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    return {
        "channels": plain_channels(state_dict, POOLINGS),
        "embed_dim": size(state_dict, "Head.fc_bin", 2),
    }


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    backbone = model.block("backbone_cfg")
    backbone.must_be("type", "Plain")
    backbone.must_be("in_channels", 1)
    words = backbone.take("layers_cfg", list)
    backbone.end()
    stages = plain_stages(words, POOLINGS)
    if stages is None:
        raise backbone.refused(
            "layers_cfg",
            words,
            "mcl_jax has stages of two equal convolutions, BC-c or FC-c-k, and an M behind the first two",
        )
    channels, strips = zip(*stages, strict=True)
    model.must_be("bin_num", [PARTS])
    return {"channels": channels, "strips": strips, "embed_dim": fcs(model, channels[-1], PARTS)}


def _published_strips(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the strips of the published runs with this number of stages."""
    stages = len(sizes["channels"])
    return {"strips": (1, 4, 8) if stages == 3 else (1, 1, *(8,) * (stages - 2))}


COUNTERPART = Counterpart(
    title="GaitPart",
    marks=("TFA.pooling_func.conv1d3x1.0.0.conv.weight",),
    entries=_entries,
    sizes=_sizes,
    block=_block,
    untold=("strips",),
    guess=_published_strips,
)
