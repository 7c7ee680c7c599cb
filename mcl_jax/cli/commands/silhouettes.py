"""`mcl-jax silhouettes`: extracts walks from footage into a pkl tree, with previews."""

import argparse
import csv
import dataclasses
import io
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mcl_jax.errors import DataError
from mcl_jax.footage.extraction import Scene, early_end, find_walks, nobody
from mcl_jax.footage.options import SEGMENTERS, FootageOptions
from mcl_jax.footage.previews import ContactSheet, draw_scene
from mcl_jax.footage.sources import Source, open_source
from mcl_jax.footage.video import VideoFile
from mcl_jax.footage.walks import Rejection, Track
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.terminal import count

HELP = "extract the silhouettes of people who walk through a video"

EXAMPLES = """\
  mcl-jax silhouettes --video lobby.mp4 --out walks
  mcl-jax silhouettes --video monday.avi tuesday.avi --segmenter knn --out walks
  mcl-jax silhouettes --video hall.mp4 --network person.onnx --out walks
  mcl-jax silhouettes --video masks/ --out walks              # a folder of PNG masks, a frame each
  mcl-jax silhouettes --video 0 --max-frames 1500 --out walks  # a minute of a camera
"""

WALKS = "walks.csv"
"""Table of the walks that were kept and left out, in the root of the tree."""

_COLUMNS = ("subject", "source", "first_frame", "silhouettes", "border_cut", "broken", "left_out")
_NEWS = 10.0  # seconds between two lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags, with the defaults of FootageOptions."""
    parser.add_argument(
        "--video",
        nargs="+",
        required=True,
        metavar="V",
        help="video files, folders of PNG masks, or the index of a camera",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="TREE", help="new folder of the pkl tree")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder of the overlay videos and contact sheets (TREE_pictures)",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write no overlay video, to save space")
    parser.add_argument("--condition", default="00", help="name of the second level of the tree (00)")
    parser.add_argument(
        "--view", default="00", help="name of the third level of the tree, such as the camera (00)"
    )
    parser.add_argument(
        "--segmenter",
        choices=SEGMENTERS,
        default="auto",
        help="how people are found: mog2 or knn for a camera that stands still, network, or masks for a "
        "video of white people on black; auto: masks for a folder, the network if given, else mog2 (auto)",
    )
    parser.add_argument(
        "--network", type=Path, metavar="FILE", help="person segmentation model, .onnx or .tflite"
    )
    parser.add_argument(
        "--person-class",
        type=int,
        metavar="N",
        help="with --network: index of the output that is a person, from 0",
    )
    for name, meaning in (
        ("max_rows", "shrink pictures with more rows than this"),
        ("min_height", "ignore people smaller than this, in pixels"),
        ("min_frames", "leave out walks with fewer silhouettes"),
        ("warm_up", "first frames of a camera, which show the empty scene: nobody should walk in them"),
        ("max_frames", "number of frames to read at most; required for a camera"),
        ("max_border_cut", "largest share of a walk's frames that the picture's edge may cut"),
        ("max_broken", "largest share of a walk's frames in which the person may be lost or hidden"),
    ):
        default = getattr(FootageOptions, name)
        kind = float if isinstance(default, float) else int
        text = f"{meaning} ({'all' if default is None else default})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> None:
    """Writes the tree and the pictures.

    Raises:
        UserError: a flag cannot be used, a video cannot be read, or it holds no usable walk.
    """
    names = [field.name for field in dataclasses.fields(FootageOptions)]
    options = FootageOptions(**{name: getattr(arguments, name) for name in names})
    out: Path = arguments.out
    for flag in ("condition", "view"):
        if getattr(arguments, flag) in ("", ".", "..") or set(getattr(arguments, flag)) & set("/\\"):
            raise DataError(f"--{flag}: {getattr(arguments, flag)!r} cannot be the name of a folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"--out: {str(out)!r} exists already; delete it or choose another")
    sources = _sources(arguments.video, options)
    pictures = arguments.pictures or out.with_name(f"{out.name}_pictures")
    table = _Table(out, arguments.condition, arguments.view)
    for prefix, source in sources.items():
        _run_one(source, prefix, options, table, pictures, overlay=not arguments.no_overlay)


def _sources(videos: Sequence[str], options: FootageOptions) -> dict[str, Source]:
    """Returns the videos, each under the prefix for the names of its people."""
    sources: dict[str, Source] = {}
    for video in videos:
        source = open_source(video, options.max_frames)
        if source.is_camera and options.max_frames is None:
            raise DataError(f"--video: {source.name} has no end; set --max-frames")
        prefix = f"camera{source.place}" if isinstance(source.place, int) else source.place.resolve().stem
        if prefix in sources:
            raise DataError(
                f"--video: two videos are called {prefix!r}; rename one, or their people would be mixed up"
            )
        sources[prefix] = source
    return sources


def _run_one(
    source: Source, prefix: str, options: FootageOptions, table: "_Table", pictures: Path, *, overlay: bool
) -> None:
    place = source.place
    sheet, news = ContactSheet(), _News(source.name)
    walks: list[Track | Rejection] = []
    rate, _ = source.clock()
    with VideoFile(pictures / f"{prefix}.mp4", rate) as video:

        def watch(scene: Scene) -> None:
            news.tell(scene.frame + 1)
            if overlay:
                video.add(draw_scene(scene))

        try:
            for walk in find_walks(place, options, watch=watch):
                walks.append(walk)
                sheet.add(walk)
                table.add(walk, prefix, source.name)
        finally:
            if walks:
                table.write()
                sheet.write(pictures / f"{prefix}.png")
    if warning := early_end(place, options, news.frames):
        print(f"warning: {warning}", file=sys.stderr)
    rejected = [walk for walk in walks if isinstance(walk, Rejection)]
    if len(rejected) == len(walks):
        raise DataError(f"{source.name}: {nobody(rejected, news.frames)}")
    kept = count(len(walks) - len(rejected), "walk")
    print(f"{source.name}: {news.frames} frames, {kept} kept, {len(rejected)} left out; see {pictures}")


class _News:
    """Prints the progress every few seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = self._last_line = time.monotonic()
        self.frames = 0

    def tell(self, frames: int) -> None:
        self.frames = frames
        now = time.monotonic()
        if now - self._last_line >= _NEWS:
            self._last_line = now
            rate = frames / (now - self._start)
            print(f"{self._name}: {frames} frames, {rate:.0f} a second", file=sys.stderr, flush=True)


class _Table:
    """Writes the tree, and a table of the walks that were kept and left out."""

    def __init__(self, out: Path, condition: str, view: str) -> None:
        self._out, self._condition, self._view = out, condition, view
        self._rows: list[tuple[str | int | float, ...]] = []

    def add(self, walk: Track | Rejection, prefix: str, source: str) -> None:
        """Writes a walk as a pickled array, as in a prepared dataset, and notes its quality."""
        subject, quality = f"{prefix}-{walk.name}", walk.quality
        reason = walk.reason if isinstance(walk, Rejection) else ""
        shares = round(quality.border_cut, 3), round(quality.broken, 3)
        self._rows.append((subject, source, walk.first_frame, quality.frames, *shares, reason))
        if isinstance(walk, Track):
            path = self._out / subject / self._condition / self._view / f"{self._view}.pkl"
            write_atomically(path, pickle.dumps(walk.silhouettes, protocol=4), sync=False)

    def write(self) -> None:
        """Writes the table."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(self._rows)
        write_atomically(self._out / WALKS, text.getvalue().encode())
