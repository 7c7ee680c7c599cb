"""`mcl-jax compare`: the distance between two walks, and whether one person made both."""

import argparse
import json
from pathlib import Path

from mcl_jax.cli.commands.flag_types import finite
from mcl_jax.cli.commands.walk_argument import embed, load_model, own_thresholds, single_walk
from mcl_jax.cli.commands.why import require_page, require_short, write_explanation
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.gallery.calibration import read_calibration

HELP = "measure the distance between two walks, and say whether they show the same person"

EXAMPLES = """\
  mcl-jax compare masks/a masks/b                       # with the model in the package
  mcl-jax compare --model runs/casiab_mcl a.pkl b.mp4
  mcl-jax compare --explain why.html masks/a masks/b    # a page: by part, by frame and by pixel
  mcl-jax compare --model OpenGait.pt --calibrate metrics.json --far 0.001 masks/a masks/b
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="run, checkpoint or published name (default: the model in the package)",
    )
    parser.add_argument(
        "--calibrate",
        metavar="F",
        help="take thresholds from this metrics.json, written by a test of the model",
    )
    parser.add_argument(
        "--far", type=finite, help="false-accept rate, between 0 and 1 (the lowest calibrated)"
    )
    parser.add_argument(
        "--explain", metavar="OUT.html", help="write a page that shows what the distance is made of"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--track", metavar="PERSON", help="if a video shows several people, use this one, such as person-001"
    )
    parser.add_argument("a", metavar="A", help="walk: video, pkl, or folder of masks (PNG)")
    parser.add_argument("b", metavar="B", help="the other walk")


def run(arguments: argparse.Namespace) -> None:
    """Prints the distance and the decision, and writes the page that explains them.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    if arguments.explain is not None:
        require_page(Path(arguments.explain))
    calibration = arguments.calibrate and read_calibration(Path(arguments.calibrate))
    walks = [single_walk(source, track=arguments.track) for source in (arguments.a, arguments.b)]
    if arguments.explain is not None:
        require_short(walks)
    gait, model = load_model(arguments.model)
    if calibration:
        calibration.check_model(model.digest, model.path)
    else:
        calibration = own_thresholds(gait)
    far = threshold = same = None
    metric = "euc"
    if arguments.far is not None and not calibration:
        raise ConfigError(
            "--far: the model has no thresholds; give the metrics.json of its test with --calibrate"
        )
    if calibration:
        far = calibration.lowest_rate() if arguments.far is None else arguments.far
        threshold, metric = calibration.threshold(far), calibration.metric
    embeddings = embed(gait, walks)
    distance = float(pairwise_distances(embeddings[:1], embeddings[1:], metric=metric)[0, 0])
    if threshold is not None:
        same = distance <= threshold
    if arguments.explain is not None:
        facts = {"distance": f"{distance:.4g} ({metric})"}
        if threshold is not None:
            facts["answer"] = f"{_verdict(same)}; the threshold is {threshold:.4g}, for a rate of {far:g}"
        write_explanation(Path(arguments.explain), gait, walks, embeddings, metric=metric, facts=facts)
    if arguments.json:
        answer = {"distance": distance, "metric": metric, "same": same, "threshold": threshold, "far": far}
        print(json.dumps(answer, allow_nan=False))
        return
    print(f"distance {distance:.4g} ({metric})")
    if threshold is not None:
        print(f"{_verdict(same)}: the threshold for a false-accept rate of {far:g} is {threshold:.4g}")


def _verdict(same: bool | None) -> str:
    return "one person" if same else "not one person"
