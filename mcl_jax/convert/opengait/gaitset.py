"""Tensors, sizes and settings of OpenGait's GaitSet."""

from collections.abc import Iterator
from typing import Any

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait.pieces import Counterpart, StateDict, conv, fcs, output_channels, size
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.utils.pytrees import ArrayTree


def _entries(params: ArrayTree) -> Iterator[Entry]:
    del params  # the structure is always the same
    names = [(f"set_block{i}.forward_block", f"set{i}") for i in (1, 2, 3)]
    names += [(f"gl_block{i}", f"global{i}") for i in (2, 3)]
    for name, key in names:
        yield from conv(f"{name}.0.conv", (key, "conv1"))
        yield from conv(f"{name}.2.conv", (key, "conv2"))
    yield Entry("Head.fc_bin", "params", ("fcs", "kernel"))


def _sizes(state_dict: StateDict) -> dict[str, Any]:
    kernels = [f"set_block{i}.forward_block.2.conv.weight" for i in (1, 2, 3)]
    return {
        "channels": output_channels(state_dict, kernels),
        "embed_dim": size(state_dict, "Head.fc_bin", 2),
    }


def _block(model: Settings, dataset: str) -> dict[str, Any]:
    del dataset  # not needed
    depth, *channels = model.numbers("in_channels", 4)
    if depth != 1:
        raise model.refused("in_channels", depth, "silhouettes have 1")
    bins = model.numbers("bin_num")
    embed_dim = fcs(model, channels[-1], 2 * sum(bins))
    return {"channels": tuple(channels), "bins": bins, "embed_dim": embed_dim}


COUNTERPART = Counterpart(
    title="GaitSet",
    marks=("set_block1.forward_block.0.conv.weight",),
    entries=_entries,
    sizes=_sizes,
    block=_block,
    untold=("bins",),
    head="Head.fc_bin",
    branches=2,
)
