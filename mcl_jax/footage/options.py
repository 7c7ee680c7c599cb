"""Options for taking silhouettes from footage."""

import dataclasses
from pathlib import Path

from mcl_jax.errors import DataError

SEGMENTERS = ("auto", "mog2", "knn", "network", "masks")


@dataclasses.dataclass(frozen=True)
class FootageOptions:
    """Options for finding people, and for keeping their walks.

    Attributes:
        segmenter: one of SEGMENTERS. "auto": masks for a folder, the network if one is given, else "mog2".
        network: a person segmentation model, .onnx or .tflite.
        person_class: which output of the network is a person; needed where it has more than two.
        max_rows: pictures with more rows are shrunk to so many; ready masks are not.
        min_height: rows of the smallest person of use.
        min_frames: silhouettes of the shortest walk of use.
        max_border_cut: the most of a walk's frames in which the picture's edge may cut the person, a share.
        max_broken: the same for frames in which the person is lost, hidden, or one piece with somebody else.
        warm_up: frames of a camera from which the empty scene is learnt, before anybody is followed.
        max_frames: how many frames to read; all if None.

    Raises:
        DataError: a choice is impossible.
    """

    segmenter: str = "auto"
    network: Path | None = None
    person_class: int | None = None
    max_rows: int = 720
    min_height: int = 40
    min_frames: int = 20
    max_border_cut: float = 0.7
    max_broken: float = 0.6
    warm_up: int = 50
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.segmenter not in SEGMENTERS:
            raise DataError(f"segmenter: no {self.segmenter!r}; there are {', '.join(SEGMENTERS)}")
        if self.segmenter == "network" and self.network is None:
            raise DataError("segmenter: 'network' needs the file of one, .onnx or .tflite")
        if self.network is not None and self.segmenter not in ("auto", "network"):
            raise DataError(f"network: segmenter {self.segmenter!r} takes none; leave one of the two out")
        for name, least in (("max_rows", 64), ("min_height", 16), ("min_frames", 1), ("warm_up", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name}: is {getattr(self, name)}; must be at least {least}")
        if self.max_frames is not None and self.max_frames < 1:
            raise DataError(f"max_frames: is {self.max_frames}; must be at least 1")
        for name in ("max_border_cut", "max_broken"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}: is {getattr(self, name)}; a share lies between 0 and 1")
