"""The table of published checkpoints. To add one, add an entry to `PUBLISHED`.

Figures are published by the authors, not measured with this package. Digests and sizes come from the history
of the repositories.

References:
    https://github.com/ShiqiYu/OpenGait/blob/master/docs/1.model_zoo.md
    https://huggingface.co/opengait/OpenGait/commits/main
    https://huggingface.co/Hansmsy/Multi-view-Consistency-loss
"""

import dataclasses
import difflib
from collections.abc import Mapping

from mcl_jax.hub.reference import HubFile

_OPENGAIT, _MCL = "opengait/OpenGait", "Hansmsy/Multi-view-Consistency-loss"
_ACADEMIC = "none found; OpenGait's code, which trained it, is for academic purposes only"
_P3D = (
    "the model zoo lists {} for a 3D model, but this file has the size of a P3D one, "
    "for which it lists no figure"
)


@dataclasses.dataclass(frozen=True)
class Published:
    """A checkpoint published by its authors.

    Attributes:
        recipe: the recipe of the run; also the name of the checkpoint.
        dataset: the training dataset, a key of `mcl_jax.data.datasets.DATASETS`.
        file: the remote file.
        figures: group → figure → %, as published; "all" if a protocol has only one group.
        sha256: digest of the file; "" if unknown.
        bytes: size of the file; 0 if unknown.
        licence: the authors' terms of use.
        note: other information for users.
    """

    recipe: str
    dataset: str
    file: HubFile
    figures: Mapping[str, Mapping[str, float]]
    sha256: str = ""
    bytes: int = 0
    licence: str = _ACADEMIC
    note: str = ""


def _rank1(*figures: float) -> dict[str, dict[str, float]]:
    groups = ("NM", "BG", "CL") if len(figures) > 1 else ("all",)
    return {group: {"Rank-1": figure} for group, figure in zip(groups, figures, strict=True)}


def _entry(
    recipe: str,
    repository: str,
    path: str,
    figures: Mapping[str, Mapping[str, float]],
    sha256: str = "",
    size: int = 0,
    note: str = "",
) -> Published:
    dataset = recipe.partition("_")[0]
    return Published(recipe, dataset, HubFile(repository, path), figures, sha256, size, note=note)


_ALL = (
    _entry(
        "casiab_mcl",
        _MCL,
        "CASIA-B/Baseline/GaitBase_DA/checkpoints/GaitBase_DA-60000.pt",
        _rank1(98.2, 94.0, 77.6),
    ),
    _entry(
        "grew_mcl",
        _MCL,
        "GREW/Baseline/GaitBase_DA/checkpoints/GaitBase_DA-180000.pt",
        {"all": {"Rank-1": 61.2, "Rank-5": 75.9, "Rank-10": 81.1}},
    ),
    _entry(
        "gait3d_mcl",
        _MCL,
        "Gait-3D/Baseline/GaitBase_DA/checkpoints/GaitBase_DA-60000.pt",
        {"all": {"Rank-1": 66.6, "Rank-5": 80.2, "mAP": 55.7}},
    ),
    _entry(
        "gait3d_deepgaitv2_interval",
        _MCL,
        "Gait-3D/DeepGaitV2/DeepGaitV2/checkpoints/DeepGaitV2-60000.pt",
        _rank1(75.5),
    ),
    _entry(
        "casiab_triplet",
        _OPENGAIT,
        "CASIA-B/Baseline/GaitBase_DA/checkpoints/GaitBase_DA-60000.pt",
        _rank1(97.6, 94.0, 77.4),
        "ff16d73d76780a1775cb4c8441ed262a9bf8836b14fad5dcec024f839c234d77",
        58_540_051,
    ),
    _entry(
        "grew_triplet",
        _OPENGAIT,
        "GREW/Baseline/GaitBase_DA/checkpoints/GaitBase_DA-180000.pt",
        _rank1(60.1),
        "09e070ce43e3acb40b7bf84d8d29051d02d0c0c127bbb45f1df0df1067ca3779",
        355_775_432,
    ),
    _entry(
        "gait3d_triplet",
        _OPENGAIT,
        "Gait3D/Baseline/GaitBase_DA/checkpoints/GaitBase_DA-60000.pt",
        _rank1(64.6),
        "975a60098b7fe9414a8fc7e625f83a6ac189a89ea38322f1338cd2744fb1fc96",
        154_419_027,
    ),
    _entry(
        "oumvlp_triplet",
        _OPENGAIT,
        "OUMVLP/Baseline/GaitBase/checkpoints/GaitBase-120000.pt",
        _rank1(90.8),
        "f8844610c4adddd1ec5fc7b48695c8c191587c10611c1987ddf031c9454353bf",
        112_522_069,
    ),
    _entry(
        "casiae_triplet",
        _OPENGAIT,
        "CASIA-E/Baseline/GaitBase/checkpoints/GaitBase-60000.pt",
        _rank1(91.59, 86.65, 74.73),
        "00b04b7dfb861e639cec0878f61b25301cf42619b327ee250fcb0f13556146df",
        62_668_819,
    ),
    _entry(
        "casiae_gaitset",
        _OPENGAIT,
        "CASIA-E/GaitSet/GaitSet/checkpoints/GaitSet-60000.pt",
        _rank1(82.54, 75.26, 62.53),
        "8c6bd8d24650d077636fc2b2f16f0374d6bb6f7b504a6e9813197927f4daa002",
        50_517_091,
    ),
    _entry(
        "casiae_gaitpart",
        _OPENGAIT,
        "CASIA-E/GaitPart/GaitPart/checkpoints/GaitPart-120000.pt",
        _rank1(82.92, 74.36, 60.48),
        "83e6705f9e7aba1dc69a6a6278fb902a7b98fec62b49ee34c88408e90db810cb",
        58_194_809,
    ),
    _entry(
        "gait3d_deepgaitv2",
        _OPENGAIT,
        "Gait3D/DeepGaitV2/DeepGaitV2/checkpoints/DeepGaitV2-60000.pt",
        _rank1(74.4),
        "ca816eab7a937cbd8f0f9c259444a8192f5438408c4b90d3896e11749e47a383",
        204_131_161,
    ),
    _entry(
        "grew_deepgaitv2",
        _OPENGAIT,
        "GREW/DeepGaitV2/DeepGaitV2/checkpoints/DeepGaitV2-180000.pt",
        {},
        "a83ef619517651bd82a4a210c50f5ad97c90a24bc7580588fa3bef19bd2033d3",
        761_187_161,
        _P3D.format("79.4"),
    ),
    _entry(
        "oumvlp_deepgaitv2",
        _OPENGAIT,
        "OUMVLP/DeepGaitV2/DeepGaitV2/checkpoints/DeepGaitV2-120000.pt",
        {},
        "40e6860c43840f61f85cfa2e59d18eb47031ce647ccb88f3e4ba7c86a1968b63",
        233_255_517,
        _P3D.format("92.0"),
    ),
)
PUBLISHED: dict[str, Published] = {entry.recipe: entry for entry in _ALL}
"""Name of the recipe → its published checkpoint."""

RUNS: dict[str, Mapping[str, Mapping[str, float]]] = {
    "casiab_gaitset": _rank1(95.8, 90.0, 75.4),
    "casiab_gaitpart": _rank1(96.1, 90.7, 78.7),
    "casiab_gaitgl": _rank1(97.4, 94.5, 83.8),
    "oumvlp_gaitset": _rank1(87.2),
    "oumvlp_gaitpart": _rank1(88.6),
    "oumvlp_gaitgl": _rank1(89.9),
    "grew_gaitset": {"all": {"Rank-1": 46.3, "Rank-5": 63.6, "Rank-10": 70.3}},
    "grew_gaitpart": _rank1(47.6),
    "grew_gaitgl": _rank1(41.5),
    "grew_gaitgl_necks": _rank1(51.7),
    "gait3d_gaitset": {"all": {"Rank-1": 36.7, "Rank-5": 58.3, "mAP": 30.0}},
    "gait3d_gaitpart": _rank1(28.2),
    "gait3d_gaitgl": _rank1(29.7),
}
"""Recipe of a published run without a known checkpoint → its figures, as in `Published`."""


def nearest_names(name: str) -> list[str]:
    """Returns the names of published checkpoints that are spelled similarly, most similar first."""
    return difflib.get_close_matches(name.casefold(), PUBLISHED, n=3, cutoff=0.5)
