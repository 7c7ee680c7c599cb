"""`mcl-jax identify`: finds the people of a gallery whose walks are nearest."""

import argparse
import json
from collections.abc import Iterator

from mcl_jax.cli.commands.flag_types import finite
from mcl_jax.cli.commands.walk_argument import MIN_FRAMES, Walk, embed, load_model, read_walks
from mcl_jax.errors import ConfigError
from mcl_jax.gallery.gallery import Answer, open_gallery
from mcl_jax.utils.terminal import count

HELP = "say which person of a gallery is walking, or that it is nobody enrolled there"

EXAMPLES = """\
  mcl-jax identify --gallery G walk.mp4
  mcl-jax identify --gallery G --far 0.001 --json walks/b.pkl masks/c
  mcl-jax identify --gallery G --video 0 --window 60   # a camera, an answer every 60 silhouettes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--gallery", required=True, metavar="G", help="folder of the gallery")
    parser.add_argument("--model", metavar="PATH", help="where the gallery's model is now, if it was moved")
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument(
        "--far",
        type=finite,
        help="accept at this false-accept rate per comparison, between 0 and 1 (the lowest calibrated)",
    )
    decision.add_argument("--threshold", type=finite, help="accept distances up to this, instead of --far")
    parser.add_argument("--top", type=int, default=5, help="number of people to name at most (5)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per walk, each on its own line"
    )
    parser.add_argument(
        "--track", metavar="PERSON", help="if a video shows several people, use this one, such as person-001"
    )
    parser.add_argument("--video", metavar="V", help="video, or index of a camera: answer while people walk")
    parser.add_argument("--window", type=int, default=60, help="with --video: silhouettes per answer (60)")
    parser.add_argument("walks", nargs="*", metavar="WALK", help="video, pkl, or folder of masks (PNG)")


def run(arguments: argparse.Namespace) -> None:
    """Prints an answer for each walk.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    if bool(arguments.walks) == (arguments.video is not None):
        raise ConfigError("give either WALK or --video")
    if arguments.top < 1:
        raise ConfigError(f"--top: is {arguments.top}; must be at least 1")
    if arguments.window < MIN_FRAMES:
        raise ConfigError(f"--window: is {arguments.window}; must be at least {MIN_FRAMES} silhouettes")
    gallery = open_gallery(arguments.gallery)
    path = arguments.model or gallery.model.path
    gait, model = load_model(path)
    gallery.check_model(model.digest, path)

    def tell(walk: Walk) -> None:
        answer = gallery.identify(
            embed(gait, [walk])[0], far=arguments.far, threshold=arguments.threshold, top=arguments.top
        )
        if arguments.json:
            print(json.dumps({"walk": walk.label, **answer.as_json()}, allow_nan=False), flush=True)
        else:
            print(in_words(walk.label, answer), flush=True)

    for walk in read_walks(arguments.walks, track=arguments.track):
        tell(walk)
    if arguments.video is not None:
        for walk in _windows(arguments.video, arguments.window):
            tell(walk)


def in_words(label: str, answer: Answer) -> str:
    """Returns an answer as lines of text."""
    nearest = answer.matches[0]
    if answer.threshold is None:
        head = f"nearest is {nearest.name}, distance {nearest.distance:.4g}; no decision without a threshold"
    else:
        side = "below" if answer.name else "above"
        limit = f"{side} the threshold {answer.threshold:.4g}"
        if answer.far is not None:
            limit += (
                f" (false-accept rate {answer.far:g} per comparison; {count(answer.walks, 'comparison')})"
            )
        head = f"{answer.name or 'unknown'}, distance {nearest.distance:.4g}, {limit}"
    ranks = [
        f"  {rank:>3}  {match.distance:8.4f}  {match.name}" for rank, match in enumerate(answer.matches, 1)
    ]
    return "\n".join([f"{label}: {head}", *ranks])


def _windows(video: str, window: int) -> Iterator[Walk]:
    from mcl_jax.footage import stream  # as in `walks`

    source: str | int = int(video) if video.isdigit() else video
    for track in stream(source, window=window):
        if len(track.silhouettes) >= MIN_FRAMES:
            yield Walk(f"{video}, frame {track.first_frame}: {track.name}", track.silhouettes)
