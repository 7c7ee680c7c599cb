"""Mistyped command lines. Not of `train` and `test`: `config` checks the same keys."""

import io
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
from mutations import NAMES, NUMBERS

import mcl_jax.evaluation.report_files  # noqa: F401  # imported with the first report, so in every try
from mcl_jax.cli import program
from mcl_jax.cli.commands import command_module
from mcl_jax.errors import UserError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from targets.base import Target
from targets.gallery import Gallery

for line in ("config", "gallery", "score", "checkpoints", "compare", "walkers"):
    command_module(line)  # here, and not in every try

LINES = (
    "config walkers_mcl --config.train.steps=100 --config.train.batch=(4,4) --config.seed=1",
    "config casiab_mcl --config.schedule.milestones=(10,20) --config.optimizer.lr=0.1",
    "config grew_mcl --config.data.workers=2 --config.data.sampling.frames=30 --config.eval.rows=64",
    "config gait3d_deepgaitv2 --config.model.channels=(4,8,16,32) --config.data.augment=(('flip',0.5),)",
    "config casiab_mcl --config.data.partition=p.json --config.data.root=here --config.loss.mcl.gamma=0.5",
    "gallery list G --json",
    "gallery rename G person-000 Ann",
    "gallery delete G Ann",
    "gallery check G",
    "score --embeddings e.npz --protocol casiab --metric euc --out report",
    "score --embeddings e.npz --protocol own.json --rerank 20,6,0.3 --out report",
    "checkpoints list run",
    "compare report other",
    "walkers --out tree --subjects 1 --test-subjects 0 --frames 3",
)
# No argument can have a NUL, or half of a character; and nothing is written outside of the folder.
ARGUMENTS = [name for name in NAMES if not {"\0", "\ud800", "/"} & set(name) and name != ".."]
KEYS = (
    "steps",
    "steps[0]",
    "steps.x",
    "seed",
    "x",
    "",
    ".",
    "train",
    "model.name",
    "loss.mcl",
    "optimizer.name",
)
VALUES = ("()", "(1,)", "(1,2,3)", "[]", "{}", "('a',)", "((", "(1,-1)", "(10**9,10**9)", "'x'", "[[1]]")


class CommandLine(Target):
    harm_is = "words of command lines"
    may_differ = True
    mebibytes = 4096
    seconds = 60

    def make(self, folder: Path) -> None:
        (folder / "G").mkdir()
        Gallery().make(folder / "G")
        labels = np.array(["001", "002"])
        EmbeddingSet(np.ones((2, 1, 2), np.float32), labels, labels, labels).save(folder / "e.npz")
        (folder / "own.json").write_text('{"gallery": ["001"], "probes": {"x": ["002"]}}')
        (folder / "line.json").write_text(json.dumps(["gallery", "list", "G"]))

    def harm(self, folder: Path, rng: random.Random) -> str:
        words = rng.choice(LINES).split()
        for _ in range(rng.choice((1, 1, 2))):
            place = rng.randrange(1, len(words))
            flag, equals, _ = words[place].partition("=")
            piece = rng.choice((*NUMBERS, *ARGUMENTS, *VALUES))
            kind = rng.randrange(6)
            if equals and kind <= 3:
                words[place] = f"{flag}={piece}"
            elif equals and kind == 4:
                words[place] = f"{flag.rpartition('.')[0]}.{rng.choice(KEYS)}={piece}"
            elif kind == 5:
                words.insert(place, piece)
            else:
                words[place] = piece
        (folder / "line.json").write_text(json.dumps(words))
        return f"{' '.join(words)!r:.200}"

    def answer(self, folder: Path) -> str:
        os.chdir(folder)
        words = json.loads((folder / "line.json").read_text())
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        sys.stdout, sys.stderr = out, errors
        try:
            code = program.run(words)
        except SystemExit as end:  # argparse's, after its usage
            code = int(end.code or 0)
        out.flush()
        errors.flush()
        said = errors.buffer.getvalue().decode()
        assert "Traceback" not in said, said
        if code:
            raise UserError(said.strip().splitlines()[-1] if code == 2 else one_error(said))
        return out.buffer.getvalue().decode()


def one_error(said: str) -> str:
    """Returns the line of a mistake, and with it all that comes after."""
    _, mark, line = said.partition("error: ")
    assert mark, said
    return line.removesuffix("\n")
