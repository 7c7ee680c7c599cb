"""Maps OpenGait's models to mcl_jax's; each file has the tensors, sizes and settings of one model."""

from mcl_jax.convert.mapping import Entry
from mcl_jax.convert.opengait import deepgaitv2, foundationgait, gaitbase, gaitgl, gaitpart, gaitset, swingait
from mcl_jax.convert.opengait.pieces import Counterpart
from mcl_jax.errors import CheckpointError
from mcl_jax.utils.pytrees import ArrayTree

COUNTERPARTS: dict[str, Counterpart] = {
    "gaitset": gaitset.COUNTERPART,
    "gaitbase": gaitbase.COUNTERPART,
    "deepgaitv2": deepgaitv2.COUNTERPART,
    "gaitpart": gaitpart.COUNTERPART,
    "gaitgl": gaitgl.COUNTERPART,
    "swingait": swingait.COUNTERPART,
    "foundationgait": foundationgait.COUNTERPART,
}
"""Key of `mcl_jax.models.MODELS` → the same model in OpenGait."""

MISSING = {
    "GaitSSB_Finetune": "mcl_jax has GaitBase's ResNet9 and FoundationGait's projector, but not the two in "
    "one model, nor a head of matrices with columns of length 1, nor a least rate for groups of parameters",
}
"""Model of OpenGait that is not here → what of it is, and what is missing."""


def entries(model: str, params: ArrayTree) -> list[Entry]:
    """Returns the entries of a model in the order of PyTorch's `state_dict`.

    Without the entries of other collections, that is also the order of PyTorch's `parameters()`.

    Args:
        model: a key of `mcl_jax.models.MODELS`.
        params: its parameters.

    Raises:
        CheckpointError: if OpenGait has no such model.
    """
    if model not in COUNTERPARTS:
        raise CheckpointError(
            f"OpenGait has no {model}, only {', '.join(COUNTERPARTS)}: load it with mcl_jax.load"
        )
    return list(COUNTERPARTS[model].entries(params))
