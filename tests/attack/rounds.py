"""Attacks every reader with damaged inputs, each in a separate process, and judges the outcomes.

    python tests/attack/rounds.py --count 50
    python tests/attack/rounds.py --targets yaml=2400 gallery --seed 3 --count 600 --keep failures
    python tests/attack/rounds.py --seconds 3600 --page docs/security.md

A try fails with another answer but no error, a signal, a traceback, or too much memory or time.
Linux only.
"""

import argparse
import collections
import functools
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

from outcomes import End, Outcome, attempt, run_apart
from targets import TARGETS, target_of
from targets.base import Target

BEGIN, FINISH = "<!-- attack table -->", "<!-- end of the attack table -->"


class Failure(collections.namedtuple("Failure", "target seed number harm end")):
    """A try that failed, and with what it can be made again."""

    def __str__(self) -> str:
        what = f"{self.target} --seed {self.seed}, try {self.number}: {self.harm}"
        return f"{what}: {self.end.outcome}: {self.end.detail}"


class Round:
    """All tries of one target.

    Args:
        name: of the target.
        target: what is attacked.
        seed: of all harm.
        keep: folder for copies of what failed; None for none.
    """

    def __init__(self, name: str, target: Target, seed: int, keep: Path | None) -> None:
        self.name, self.target, self.seed, self.keep = name, target, seed, keep
        self.counts: collections.Counter[Outcome] = collections.Counter()
        self.failures: list[Failure] = []

    def run(self, count: int, seconds: float) -> None:
        """Tries so often, or for so long."""
        with tempfile.TemporaryDirectory(prefix="attack-") as name:
            sound, copy = Path(name) / "sound", Path(name) / "copy"
            sound.mkdir()
            run_apart(functools.partial(self.target.make, sound))
            # Always of a copy: to read may be to write, as a new lock or index.
            shutil.copytree(sound, copy, symlinks=True)
            expected = self._attempt(copy)
            shutil.rmtree(copy)
            if expected.outcome is not Outcome.SAME:
                raise SystemExit(f"{self.name}: unharmed, and {expected.outcome}: {expected.detail}")
            until = time.monotonic() + seconds
            for number in range(count):
                if time.monotonic() > until:
                    break
                rng = random.Random(f"{self.name} {self.seed} {number}")
                shutil.copytree(sound, copy, symlinks=True)
                harm = self.target.harm(copy, rng)
                self._note(number, harm, self._judged(self._attempt(copy), expected), copy)
                shutil.rmtree(copy)

    def _attempt(self, folder: Path) -> End:
        answer = functools.partial(self.target.answer, folder)
        return attempt(answer, mebibytes=self.target.mebibytes, seconds=self.target.seconds)

    def _judged(self, end: End, expected: End) -> End:
        if end.outcome is not Outcome.SAME or end == expected:
            return end
        return end._replace(outcome=Outcome.OTHER if self.target.may_differ else Outcome.SILENT)

    def _note(self, number: int, harm: str, end: End, copy: Path) -> None:
        self.counts[end.outcome] += 1
        if not end.outcome.is_failure:
            return
        self.failures.append(Failure(self.name, self.seed, number, harm, end))
        print(self.failures[-1], flush=True)
        if self.keep is not None:
            shutil.copytree(copy, self.keep / f"{self.name}-{self.seed}-{number}", dirs_exist_ok=True)

    def row(self) -> str:
        """Returns the line of the table."""
        counts = [self.counts[outcome] for outcome in Outcome]
        return f"| {self.name} | {self.target.harm_is} | {sum(counts)} | {' | '.join(map(str, counts))} |"


def table(rounds: list[Round]) -> str:
    """Returns all results in Markdown."""
    heads = ["target", "harm", "tries", *(outcome.lower() for outcome in Outcome)]
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(one.row() for one in rounds)])


def write_page(page: Path, text: str) -> None:
    """Puts a table in the place of the one on a page, between its two marks."""
    before, mark, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(FINISH)
    if not mark or not end:
        raise SystemExit(f"{page}: lacks the marks {BEGIN} and {FINISH}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{FINISH}{after}")


def _with_count(text: str) -> tuple[str, int | None]:
    name, equals, count = text.partition("=")
    if name not in TARGETS:
        raise argparse.ArgumentTypeError(f"no target {name!r}; there are {', '.join(TARGETS)}")
    return name, int(count) if equals else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [(name, None) for name in TARGETS]
    parser.add_argument("--targets", nargs="+", type=_with_count, default=every, metavar="NAME[=COUNT]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="tries of each target that has no count of its own")
    parser.add_argument("--seconds", type=float, default=1e9, help="for all targets together")
    parser.add_argument("--keep", type=Path, help="folder for copies of what failed")
    parser.add_argument("--page", type=Path, help="Markdown page to write the table into")
    given = parser.parse_args()
    if given.seconds == 1e9 and given.count is None and any(count is None for _, count in given.targets):
        parser.error("give --count, --seconds or both")
    rounds: list[Round] = []
    begun = time.monotonic()
    for number, (name, count) in enumerate(given.targets):
        left = given.seconds - (time.monotonic() - begun)
        rounds.append(Round(name, target_of(name), given.seed, given.keep))
        rounds[-1].run(count or given.count or 10**9, left / (len(given.targets) - number))
    text = table(rounds)
    print(text)
    if given.page is not None:
        write_page(given.page, text)
    return 1 if any(one.failures for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
