"""Tensors, sizes and settings of OpenGait's GaitPart."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.pieces import Counterpart, StateDict, conv, fcs, output_channels, size
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.models.gaitpart import PARTS, POOLINGS
from mcl_jax.utils.pytrees import ArrayTree

_ROOT = "Backbone.forward_block.feature"
_BRANCHES = {"short": "TFA.pooling_func.conv1d3x1", "long": "TFA.pooling_func.conv1d3x3"}
_WORD = re.compile(r"BC-\d{1,9}|FC-\d{1,9}-\d")
_MOST_STAGES = 16


def _convolutions(stages: int) -> Iterator[tuple[int, int, str]]:
    """Yields stage, position in the stage, and OpenGait's name of each convolution.

    OpenGait's numbers also count activations and poolings.
    """
    place = 0
    for stage in range(stages):
        for i in (1, 2):
            yield stage, i, f"{_ROOT}.{place}.conv"
            place += 2
        place += stage < POOLINGS


def _entries(params: ArrayTree) -> Iterator[Entry]:
    for stage, i, name in _convolutions(len(params["stages"])):
        yield from conv(name, ("stages", stage, f"conv{i}"))
    yield Entry("Head.fc_bin", "params", ("fcs", "kernel"))
    for branch, name in _BRANCHES.items():
        for part in range(PARTS):
            for place, i in ((0, 1), (2, 2)):
                path = (branch, f"conv{i}", "kernel")
                yield Entry(f"{name}.{part}.{place}.conv.weight", "params", path, kernel_axes=3, part=part)


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    names = [name for _, i, name in _convolutions(_MOST_STAGES) if i == 2]
    kernels = [f"{name}.weight" for name in names if f"{name}.weight" in state_dict]
    return {
        "channels": output_channels(state_dict, kernels),
        "embed_dim": size(state_dict, "Head.fc_bin", 2),
    }


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    backbone = model.block("backbone_cfg")
    backbone.must_be("type", "Plain")
    backbone.must_be("in_channels", 1)
    words = backbone.take("layers_cfg", list)
    backbone.end()
    stages = _stages(words)
    if stages is None:
        raise backbone.refused(
            "layers_cfg",
            words,
            "mcl_jax has stages of two equal convolutions, BC-c or FC-c-k, and an M behind the first two",
        )
    channels, strips = zip(*stages, strict=True)
    model.must_be("bin_num", [PARTS])
    return {"channels": channels, "strips": strips, "embed_dim": fcs(model, channels[-1], PARTS)}


def _stages(words: list[Any]) -> list[tuple[int, int]] | None:
    """Returns channels and strips of each stage; None if `words` do not describe such stages."""
    *pooled, rest = (piece.split() for piece in " ".join(map(str, words)).split(" M "))
    pairs = [*pooled, *(rest[i : i + 2] for i in range(0, len(rest), 2))]
    alike = all(len(pair) == 2 and pair[0] == pair[1] and _WORD.fullmatch(pair[0]) for pair in pairs)
    if len(pooled) != POOLINGS or not alike:
        return None
    numbers = ([*map(int, pair[0].split("-")[1:])] for pair in pairs)
    return [(channels, 2 ** sum(halvings)) for channels, *halvings in numbers]


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
