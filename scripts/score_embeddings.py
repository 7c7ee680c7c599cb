"""Scores saved embeddings by a protocol: prints the table, writes numbers and pictures.

python scripts/score_embeddings.py --embeddings E.npz --protocol casiab --out report
"""

import argparse
import sys
from pathlib import Path

from absl import logging

from mcl_jax.command_line import exit_code
from mcl_jax.data.sequences import read_probe_set
from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import PROTOCOLS
from mcl_jax.evaluation.report import write_report
from mcl_jax.evaluation.rerank import Rerank


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--embeddings", required=True, help=".npz with embeddings, subjects, conditions, views"
    )
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS)
    parser.add_argument("--metric", default="euc", choices=["euc", "cos"], help="default: euc")
    parser.add_argument("--partition", help="partition JSON with PROBE_SET; gait3d needs it")
    parser.add_argument(
        "--rerank",
        nargs="?",
        const="20,6,0.3",
        metavar="K1,K2,LAMBDA",
        help="re-rank by k-reciprocal neighbours; without values: %(const)s",
    )
    parser.add_argument("--out", required=True, help="folder for metrics.json, table.txt and pictures")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Scores, and prints the table."""
    logging.set_verbosity(logging.INFO)
    embeddings = EmbeddingSet.load(args.embeddings)
    probe_set = None if args.partition is None else read_probe_set(Path(args.partition))
    rerank = None if args.rerank is None else Rerank.parse(args.rerank)
    try:
        report = write_report(
            embeddings, args.protocol, args.out, metric=args.metric, partition=probe_set, rerank=rerank
        )
    except DataError as error:
        raise DataError(f"{args.embeddings}: {error}") from None
    print(report["table"], end="")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(parse_args())))
