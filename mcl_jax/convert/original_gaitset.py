"""Translates tensors of the original GaitSet (github.com/AbnerHqc/GaitSet) to OpenGait's names and order."""

from collections.abc import Mapping

import numpy as np

_BINS = (1, 2, 4, 8, 16)
"""Strips of the original's pyramid, in its order; OpenGait has the reverse order."""

_HEAD, _OPENGAIT_HEAD = "fc_bin", "Head.fc_bin"
_NAMES = {
    f"set_layer{2 * block + convolution - 2}.forward_block.conv.weight": (
        f"set_block{block}.forward_block.{2 * convolution - 2}.conv.weight"
    )
    for block in (1, 2, 3)
    for convolution in (1, 2)
} | {
    f"gl_layer{2 * block + convolution - 4}.conv.weight": f"gl_block{block}.{2 * convolution - 2}.conv.weight"
    for block in (2, 3)
    for convolution in (1, 2)
}


def from_original_gaitset(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a `state_dict` in the form of OpenGait's GaitSet; that of another model is not changed.

    Args:
        state_dict: names without prefix.
    """
    if not _NAMES.keys() <= state_dict.keys():
        return dict(state_dict)
    renamed = {_NAMES.get(name, name): tensor for name, tensor in state_dict.items()}
    if _HEAD in renamed:
        head = renamed.pop(_HEAD)
        order = _order_of_parts()
        renamed[_OPENGAIT_HEAD] = head[order] if len(head) == len(order) else head
    return renamed


def _order_of_parts() -> list[int]:
    """Returns the position in the original embedding of each part of OpenGait's.

    In the original, each pyramid level has the strips of the set branch and then those of the global branch;
    in OpenGait, all strips of the set branch come first.
    """
    starts = np.cumsum([0, *(2 * strips for strips in _BINS)])
    return [
        int(starts[i]) + branch * _BINS[i] + strip
        for branch in (0, 1)
        for i in reversed(range(len(_BINS)))
        for strip in range(_BINS[i])
    ]
