"""`mcl-jax walkers`: synthetic people, as a silhouette tree like CASIA-B's or as a video."""

import argparse
import dataclasses
import os
import time
from pathlib import Path

from mcl_jax.cli.commands.flag_types import finite
from mcl_jax.data.feed.clip_sheet import encode_png
from mcl_jax.errors import DataError
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.sheets import labelled
from mcl_jax.utils.terminal import count
from mcl_jax.walkers import CONDITIONS, VIEWS, Passer, WalkerStyle, contact_sheet, film, write_walkers

HELP = "make synthetic walking people: a dataset like CASIA-B to train and test on, or a video"

_PICTURE = (480, 270)  # columns and rows of a film
_BETWEEN = 6.0  # seconds from one person to the next; by then the picture is empty again
_ON_SHEET, _WORN_ON_SHEET = 3, ("nm-01", "bg-01", "cl-01")  # people, and the conditions of each

EXAMPLES = """\
  mcl-jax walkers --out data/walkers --subjects 100 --test-subjects 50 --workers 2
  mcl-jax walkers --sheet walkers.png --views 036,090
  mcl-jax walkers --film lobby.mp4 --people 0,3 --conditions nm-05 --seed 1   # a video, one after the other
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags, among them one for each field of WalkerStyle."""
    parser.add_argument(
        "--out", type=Path, help="folder of the tree; the partition JSON is written beside it"
    )
    parser.add_argument("--subjects", type=int, default=100, help="number of people (100)")
    parser.add_argument(
        "--test-subjects", type=int, default=50, help="how many of them, the last ones, are for testing (50)"
    )
    parser.add_argument("--views", default=",".join(VIEWS), help="such as 036,090 (all eleven)")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="such as nm-01,bg-01 (all ten)")
    parser.add_argument("--frames", type=int, default=60, help="average number of frames in a sequence (60)")
    parser.add_argument(
        "--frames-per-second", type=finite, default=25.0, help="with --out: frame rate of the cameras (25)"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="number of processes (all cores)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed; each makes different people (0)")
    parser.add_argument("--partition", type=Path, help="path of the partition JSON (<out>_partition.json)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet PNG here")
    parser.add_argument(
        "--film", type=Path, metavar="V", help="also write a video of people from the side: .mp4 or .avi"
    )
    parser.add_argument(
        "--people", default="0", help="with --film: who walks, such as 0,3; numbers from 0 (0)"
    )
    for knob in dataclasses.fields(WalkerStyle):
        flag = f"--{knob.name.replace('_', '-')}"
        parser.add_argument(
            flag, type=finite, default=knob.default, help=f"{knob.metadata['help']} ({knob.default})"
        )
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    """Writes the sheet, the film and the tree that were asked for.

    Raises:
        UserError: for any mistake that the user can fix.
        SystemExit: with code 2, if none of them was asked for.
    """
    if arguments.out is None and arguments.sheet is None and arguments.film is None:
        arguments.usage_error("nothing to do: give --out, --film or --sheet, or several")
    knobs = [knob.name for knob in dataclasses.fields(WalkerStyle)]
    style = WalkerStyle(**{name: getattr(arguments, name) for name in knobs})
    views, conditions = arguments.views.split(","), arguments.conditions.split(",")
    if arguments.sheet:
        sheet = contact_sheet(arguments.seed, range(_ON_SHEET), _WORN_ON_SHEET, views, style)
        rows = [f"{i + 1:03d} {condition}" for i in range(_ON_SHEET) for condition in _WORN_ON_SHEET]
        write_atomically(arguments.sheet, encode_png(labelled(sheet, rows, views)))
    if arguments.film:
        passers = _passers(arguments.people, conditions)
        frames = film(arguments.film, passers, seed=arguments.seed, size=_PICTURE, style=style)
        print(f"{arguments.film}: {frames} frames, {count(len(passers), 'person', 'people')}")
    if arguments.out is None:
        return
    start = time.perf_counter()
    written = write_walkers(
        arguments.out,
        subjects=arguments.subjects,
        test_subjects=arguments.test_subjects,
        views=views,
        conditions=conditions,
        frames=arguments.frames,
        seed=arguments.seed,
        workers=arguments.workers,
        style=style,
        frames_per_second=arguments.frames_per_second,
        partition=arguments.partition,
        progress=True,
    )
    rate = written / (time.perf_counter() - start)
    print(f"{arguments.out}: {arguments.subjects} subjects, {written} new sequences, {rate:.0f} a second")


def _passers(people: str, conditions: list[str]) -> list[Passer]:
    """Returns the people who cross the picture, one after the other.

    Raises:
        DataError: if a number is invalid, or not exactly one condition is chosen.
    """
    if len(conditions) != 1:
        raise DataError("--conditions: a video has one, such as --conditions nm-01")
    numbers = people.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise DataError(f"--people: is {people!r}; expected numbers from 0, such as 0,3")
    return [
        Passer(int(number), conditions[0], height=0.7, delay=_BETWEEN * place)
        for place, number in enumerate(numbers)
    ]
