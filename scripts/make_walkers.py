"""Write synthetic walking people as a silhouette tree that trains and tests like CASIA-B.

python scripts/make_walkers.py --out data/walkers --subjects 100 --test-subjects 50 --workers 2
"""

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path

import cv2

from mcl_jax.command_line import exit_code
from mcl_jax.walkers import CONDITIONS, VIEWS, WalkerStyle, contact_sheet, write_walkers


def parse_args() -> argparse.Namespace:
    """Flags; one for each knob of WalkerStyle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the tree; the partition JSON is written beside it"
    )
    parser.add_argument("--subjects", type=int, default=100, help="people in all (100)")
    parser.add_argument(
        "--test-subjects", type=int, default=50, help="of them, the last ones, for testing (50)"
    )
    parser.add_argument("--views", default=",".join(VIEWS), help="comma-separated (all eleven)")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="comma-separated (all ten)")
    parser.add_argument("--frames", type=int, default=60, help="mean frames of a sequence (60)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.add_argument("--seed", type=int, default=0, help="of the population (0)")
    parser.add_argument("--partition", type=Path, help="path of the partition JSON (<out>_partition.json)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet PNG here")
    for knob in dataclasses.fields(WalkerStyle):
        flag = f"--{knob.name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=knob.default, help=f"see WalkerStyle ({knob.default})")
    args = parser.parse_args()
    if args.out is None and args.sheet is None:
        parser.error("nothing to do: give --out, --sheet or both")
    return args


def run(args: argparse.Namespace) -> None:
    """Write the sheet and the tree that were asked for."""
    style = WalkerStyle(**{knob.name: getattr(args, knob.name) for knob in dataclasses.fields(WalkerStyle)})
    views, conditions = args.views.split(","), args.conditions.split(",")
    if args.sheet:
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.sheet), contact_sheet(args.seed, views=views, style=style))
    if args.out is None:
        return
    start = time.perf_counter()
    written = write_walkers(
        args.out,
        subjects=args.subjects,
        test_subjects=args.test_subjects,
        views=views,
        conditions=conditions,
        frames=args.frames,
        seed=args.seed,
        workers=args.workers,
        style=style,
        partition=args.partition,
        progress=sys.stderr.isatty(),
    )
    seconds = time.perf_counter() - start
    print(f"{args.out}: {args.subjects} subjects, {written} new sequences, {written / seconds:.0f} a second")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(parse_args())))
