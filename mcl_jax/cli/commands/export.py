"""`mcl-jax export`: a trained model as one file for other programs."""

import argparse

import mcl_jax
from mcl_jax.exporting import FORMATS
from mcl_jax.exporting.writer import export

HELP = "write a trained model as ONNX or StableHLO: silhouettes in, an embedding out"

EXAMPLES = """\
  mcl-jax export --model runs/casiab_mcl --out casiab.onnx
  mcl-jax export --model runs/casiab_mcl --format stablehlo --out casiab.stablehlo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--model",
        help="run, checkpoint of OpenGait, or published name (default: the model in the package)",
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="default: %(default)s")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write")


def run(arguments: argparse.Namespace) -> None:
    """Exports as the flags say.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    gait = mcl_jax.load(arguments.model)
    export(gait, arguments.out, format=arguments.format)
    side = gait.frame_shape[0]
    frames = f"frames uint8 [any, {side}, {side}]"
    print(f"{arguments.out}: {arguments.format}, {frames} → [{gait.parts}, {gait.channels}]")
