"""`mcl-jax prepare`: turns an unpacked dataset into silhouettes for training."""

import argparse
import dataclasses
import os
from pathlib import Path

from mcl_jax.data.datasets import download_of, downloads
from mcl_jax.data.prepare.cleaning import ORDERS, Cleaning
from mcl_jax.data.prepare.layouts import holds_pkl
from mcl_jax.data.prepare.preparation import FORMATS, prepare_dataset
from mcl_jax.data.stores.pkl_file import check_choice
from mcl_jax.errors import DataError

HELP = "turn an unpacked dataset into silhouettes for training"

EXAMPLES = """\
  mcl-jax prepare casiab --src CASIA-B-silhouettes --out data/casiab --workers 8
  mcl-jax prepare grew --src GREW --out data/grew --format records
  mcl-jax prepare tree --src masks --out data/mine --threshold 128 --largest-piece --order number
  mcl-jax prepare tree --src an/opengait/pkl/tree --out data/mine --format records
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; the defaults write a pkl tree on all cores."""
    parser.add_argument(
        "dataset",
        choices=downloads(),
        help="layout of the download; `tree` is any subject/condition/view/*.png",
    )
    parser.add_argument("--src", required=True, help="the unpacked download, or a pkl tree")
    parser.add_argument(
        "--out", required=True, help="new folder, or the folder of an earlier, unfinished preparation"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="pkl",
        help="pkl: one file per sequence; records: one file per 512 sequences, smaller (pkl)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="number of processes (all cores)"
    )
    parser.add_argument("--skip-damaged", action="store_true", help="leave out files that cannot be read")
    parser.add_argument(
        "--threshold",
        type=int,
        default=0,
        help="pixels of this grey level or more become white; 0 keeps grey levels (0)",
    )
    parser.add_argument(
        "--largest-piece", action="store_true", help="keep only the largest piece of each frame"
    )
    parser.add_argument(
        "--order", choices=ORDERS, default="name", help="order of the frames in a walk (name)"
    )
    parser.add_argument(
        "--file", default="", help="which pkl file to use if a folder has several: a pattern or a number"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> None:
    """Prepares the dataset, and prints a summary in one line.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    for name in ("src", "out"):
        if not getattr(arguments, name):
            raise DataError(f"--{name} is empty; give a folder")
    check_choice(arguments.file)
    if arguments.file and Path(arguments.src).is_dir() and not holds_pkl(Path(arguments.src)):
        raise DataError(f"--file: is for a tree of pkl files, and {arguments.src!r} is none; leave it out")
    download = download_of(arguments.dataset)
    summary = prepare_dataset(
        dataclasses.replace(download, file=arguments.file or download.file),
        Path(arguments.src),
        Path(arguments.out),
        file_format=arguments.format,
        workers=arguments.workers,
        skip_damaged=arguments.skip_damaged,
        progress=not arguments.quiet,
        cleaning=Cleaning(arguments.threshold, arguments.largest_piece, arguments.order),
    )
    print(
        f"{arguments.out}: {summary.sequences} sequences, {summary.frames} frames; left out "
        f"{summary.skipped_frames} frames and {summary.skipped_sequences} sequences, see skipped.csv there"
    )
