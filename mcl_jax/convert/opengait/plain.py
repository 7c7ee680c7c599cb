"""Tensors, sizes and settings of OpenGait's backbone `Plain`, which several of its models have.

It is a list of convolutions, activations and poolings. A `stage` here is two equal convolutions.
"""

import re
from collections.abc import Iterator
from typing import Any

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.pieces import StateDict, conv, output_channels
from mcl_jax.utils.pytrees import TreePath

ROOT = "Backbone.forward_block.feature"
"""Prefix of the names of its tensors."""

_WORD = re.compile(r"BC-\d{1,9}|FC-\d{1,9}-\d")
_MOST_STAGES = 16


def _convolutions(stages: int, poolings: int) -> Iterator[tuple[int, int, str]]:
    """Yields stage, position in the stage, and OpenGait's name of each convolution.

    OpenGait's numbers also count activations and poolings.
    """
    place = 0
    for stage in range(stages):
        for i in (1, 2):
            yield stage, i, f"{ROOT}.{place}.conv"
            place += 2
        place += stage < poolings


def plain_entries(path: TreePath, stages: int, poolings: int) -> Iterator[Entry]:
    """Yields the tensors of the stages at a path, of which the first `poolings` end with pooling."""
    for stage, i, name in _convolutions(stages, poolings):
        yield from conv(name, (*path, stage, f"conv{i}"))


def plain_channels(state_dict: StateDict, poolings: int) -> tuple[int, ...] | None:
    """Returns the output channels of each stage; None if a kernel has none."""
    names = [f"{name}.weight" for _, i, name in _convolutions(_MOST_STAGES, poolings) if i == 2]
    return output_channels(state_dict, [name for name in names if name in state_dict])


def plain_stages(words: list[Any], poolings: int) -> list[tuple[int, int]] | None:
    """Returns channels and strips of each stage; None if `words` do not describe such stages.

    Args:
        words: OpenGait's `layers_cfg`, of BC-64 (a convolution), FC-64-2 (one of 4 strips) and M (pooling).
        poolings: how many of the first stages must end with pooling.
    """
    *pooled, rest = (piece.split() for piece in " ".join(map(str, words)).split(" M "))
    pairs = [*pooled, *(rest[i : i + 2] for i in range(0, len(rest), 2))]
    alike = all(len(pair) == 2 and pair[0] == pair[1] and _WORD.fullmatch(pair[0]) for pair in pairs)
    if len(pooled) != poolings or not alike:
        return None
    numbers = ([*map(int, pair[0].split("-")[1:])] for pair in pairs)
    return [(channels, 2 ** sum(halvings)) for channels, *halvings in numbers]
