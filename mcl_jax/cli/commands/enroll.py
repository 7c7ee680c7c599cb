"""`mcl-jax enroll`: adds a person and their walks to a gallery."""

import argparse
from pathlib import Path

from mcl_jax.cli.commands.walk_argument import PACKAGED, embed, load_model, own_thresholds, single_walk
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.gallery.calibration import read_calibration
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import INDEX
from mcl_jax.utils.terminal import count

HELP = "add a person's walks to a gallery, or set the thresholds of the gallery"

EXAMPLES = """\
  mcl-jax enroll --gallery G --name "A. N. Other" walk.mp4     # with the model in the package
  mcl-jax enroll --gallery G --model runs/casiab_mcl --name "A. N. Other" walk.mp4
  mcl-jax enroll --gallery G --name "A. N. Other" --add walks/b.pkl masks/c
  mcl-jax enroll --gallery G --calibrate runs/casiab_mcl/test/metrics.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--gallery", required=True, metavar="G", help="folder of the gallery; the first walk creates it"
    )
    parser.add_argument("--name", help="name of the person")
    parser.add_argument("--add", action="store_true", help="add the walks to a person who is already there")
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="for a new gallery: run, checkpoint or published name (default: the model in the package)",
    )
    parser.add_argument(
        "--track", metavar="PERSON", help="if a video shows several people, use this one, such as person-001"
    )
    parser.add_argument(
        "--calibrate",
        metavar="F",
        help="take thresholds from this metrics.json, written by a test of the model",
    )
    parser.add_argument("walks", nargs="*", metavar="WALK", help="video, pkl, or folder of masks (PNG)")


def run(arguments: argparse.Namespace) -> None:
    """Enrols as the flags say.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    if bool(arguments.walks) != bool(arguments.name):
        raise ConfigError("--name and WALK go together; give both")
    if not arguments.walks and not arguments.calibrate:
        raise ConfigError("nothing to do: give --name and WALK, or --calibrate, or both")
    calibration = arguments.calibrate and read_calibration(Path(arguments.calibrate))
    walks = [single_walk(source, track=arguments.track) for source in arguments.walks]
    folder = Path(arguments.gallery)
    new = not (folder / INDEX).exists()
    if new and not walks:
        raise DataError(f"{folder}: is not a gallery yet; create it with --name and a WALK")
    if calibration and not walks:
        calibration.check_model(open_gallery(folder).model.digest, str(folder))
    if walks:
        path = arguments.model or (PACKAGED if new else open_gallery(folder).model.path)
        gait, model = load_model(path)
        if not new:
            open_gallery(folder).check_model(model.digest, path)
        if calibration:
            calibration.check_model(model.digest, path)
        elif new:
            calibration = own_thresholds(gait)
        embeddings = embed(gait, walks)
        gallery = open_gallery(folder, create=model)
        frames = [len(walk.silhouettes) for walk in walks]
        name = gallery.enroll(arguments.name, embeddings, frames, add=arguments.add)
        people = gallery.people()
        walks_and_people = f"{count(people[name], 'walk')}; {count(len(people), 'person', 'people')} in all"
        print(f"{folder}: {name} has {walks_and_people}")
    if calibration:
        open_gallery(folder).calibrate(calibration)
        for rate, threshold in calibration.thresholds.items():
            print(f"{folder}: false-accept rate {rate:g} per comparison: distances up to {threshold:.4g}")
