"""`mcl-jax demo`: identifies people in a video, then trains and tests a small GaitBase."""

import argparse
import os
from pathlib import Path

from mcl_jax.cli.commands.identify import in_words
from mcl_jax.cli.commands.walk_argument import embed, load_model, own_thresholds, read_walks, single_walk
from mcl_jax.cli.launch import RunOptions, launch
from mcl_jax.cli.overrides import parse_config
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.runtime.settings import keep_memory
from mcl_jax.walkers import Passer, film, write_walkers

HELP = (
    "identify filmed synthetic people, then train a small GaitBase with MCL on others and test it, in minutes"
)

_SEED = 1  # of the people on film
_PICTURE = (480, 270)
_ENROLLED = {"zero": 0, "one": 1}  # name → which person of the population
_LOBBY = (0, 20)  # who walks by later: an enrolled person in another walk, and a stranger

EXAMPLES = """\
  mcl-jax demo
  mcl-jax demo --out elsewhere --config.train.steps=200
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for all files of the demo (demo)"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="number of processes (all cores)"
    )
    parser.set_defaults(config_keys=[])


def run(arguments: argparse.Namespace) -> None:
    """Runs the demo; run again, it continues where it stopped.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    keep_memory()  # identification starts JAX's threads, so it must come before that
    _identify(arguments.out / "films")
    _train(arguments.out, arguments.workers, arguments.config_keys)


def _identify(folder: Path) -> None:
    """Films people and asks the model in the package who they are."""
    folder.mkdir(parents=True, exist_ok=True)
    print("Two people are filmed and enrolled. Then one of them and a stranger walk by. Who is who?")
    gait, model = load_model(None)
    gallery = open_gallery(folder / "gallery", create=model)
    calibration = own_thresholds(gait)
    if calibration:
        gallery.calibrate(calibration)
    for name, subject in _ENROLLED.items():
        if name not in gallery.people():
            video = folder / f"{name}.mp4"
            film(video, [Passer(subject)], seed=_SEED, size=_PICTURE)
            walk = single_walk(str(video))
            gallery.enroll(name, embed(gait, [walk]), [len(walk.silhouettes)])
    lobby = folder / "lobby.mp4"
    passers = [Passer(subject, "nm-05", delay=6.0 * i) for i, subject in enumerate(_LOBBY)]
    film(lobby, passers, seed=_SEED, size=_PICTURE)
    for walk in read_walks([str(lobby)]):
        print(in_words(walk.label, gallery.identify(embed(gait, [walk])[0], far=1e-3)))


def _train(folder: Path, workers: int, config_keys: list[str]) -> None:
    """Makes walkers, trains on some and tests on others; run again, it continues where it stopped."""
    people = folder / "walkers"
    write_walkers(
        people,
        subjects=150,
        test_subjects=50,
        views=("036", "072", "108", "144"),
        frames=30,
        workers=workers,
        progress=True,
    )
    where = [f"--config.data.root={people}", f"--config.data.partition={people}_partition.json"]
    config = parse_config("walkers_mcl", [*where, *config_keys])
    launch(config, "walkers_mcl", RunOptions(workdir=str(folder / "run")))
