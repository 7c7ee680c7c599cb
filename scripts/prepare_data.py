"""Prepare a gait dataset for training, from the folder it was unpacked into.

    python scripts/prepare_data.py casiab --src CASIA-B-silhouettes --out data/casiab --workers 8
    python scripts/prepare_data.py grew --src GREW --out data/grew --format records
    python scripts/prepare_data.py tree --src an/opengait/pkl/tree --out data/mine --format records

Stopped, it goes on when run again. docs/data.md has the layouts and formats.
"""

import argparse
import os
import sys
from pathlib import Path

from mcl_jax.command_line import exit_code
from mcl_jax.data.datasets import download_of, downloads
from mcl_jax.data.prepare.preparation import FORMATS, prepare_dataset
from mcl_jax.errors import DataError


def parse_args() -> argparse.Namespace:
    """Flags; the defaults write a pkl tree on all cores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=downloads(), help="`tree` is any subject/condition/view/*.png")
    parser.add_argument("--src", required=True, help="the unpacked download, or a pkl tree")
    parser.add_argument("--out", required=True, help="new folder, or one begun by the same command")
    parser.add_argument("--format", choices=FORMATS, default="pkl", help="(pkl)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.add_argument("--skip-damaged", action="store_true", help="leave out files that cannot be read")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Prepare, and say in one line what came of it."""
    for name in ("src", "out"):
        if not getattr(args, name):
            raise DataError(f"--{name} is empty; give a folder")
    summary = prepare_dataset(
        download_of(args.dataset),
        Path(args.src),
        Path(args.out),
        file_format=args.format,
        workers=args.workers,
        skip_damaged=args.skip_damaged,
        progress=not args.quiet,
    )
    print(
        f"{args.out}: {summary.sequences} sequences, {summary.frames} frames; left out "
        f"{summary.skipped_frames} frames and {summary.skipped_sequences} sequences, see skipped.csv there"
    )


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(parse_args())))
