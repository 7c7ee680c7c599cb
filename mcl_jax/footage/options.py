"""Options for extracting silhouettes from footage."""

import dataclasses
from pathlib import Path

from mcl_jax.errors import DataError

SEGMENTERS = ("auto", "mog2", "knn", "network", "masks")


@dataclasses.dataclass(frozen=True)
class FootageOptions:
    """Options for finding people, and for keeping their walks.

    Attributes:
        segmenter: one of SEGMENTERS. "auto": masks for a folder, the network if one is given, else "mog2".
        network: file of a person segmentation model, .onnx or .tflite.
        person_class: index of the network's output that is a person; needed if there are more than two.
        max_rows: pictures with more rows are shrunk to this many; finished masks are not.
        min_height: least height of a person, in rows.
        min_frames: least number of silhouettes in a walk.
        max_border_cut: largest share of a walk's frames in which the picture's edge may cut the person.
        max_broken: the same for frames in which the person is lost, hidden, or joined to somebody else.
        warm_up: number of first frames from which a camera's empty scene is learnt.
        max_frames: number of frames to read at most; all if None.

    Raises:
        DataError: an option is invalid.
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
            raise DataError("segmenter: 'network' needs a network file, .onnx or .tflite")
        if self.network is not None and self.segmenter not in ("auto", "network"):
            raise DataError(
                f"network: segmenter {self.segmenter!r} does not use one; leave one of the two out"
            )
        for name, least in (("max_rows", 64), ("min_height", 16), ("min_frames", 1), ("warm_up", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name}: is {getattr(self, name)}; must be at least {least}")
        if self.max_frames is not None and self.max_frames < 1:
            raise DataError(f"max_frames: is {self.max_frames}; must be at least 1")
        for name in ("max_border_cut", "max_broken"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}: is {getattr(self, name)}; must be between 0 and 1")
