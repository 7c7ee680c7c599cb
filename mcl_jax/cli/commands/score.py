"""`mcl-jax score`: scores saved embeddings and writes a report."""

import argparse
from pathlib import Path
from typing import get_args

from absl import logging

from mcl_jax.data.sequences import read_gallery_set, read_probe_set
from mcl_jax.errors import DataError
from mcl_jax.evaluation.distances import Metric
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.origin import made_now
from mcl_jax.evaluation.protocol_file import find_protocol
from mcl_jax.evaluation.protocols import PROTOCOLS
from mcl_jax.evaluation.report import clear_report, score
from mcl_jax.evaluation.rerank import Rerank

HELP = "score saved embeddings by a protocol: table, numbers and pictures"

EXAMPLES = """\
  mcl-jax score --embeddings run/test/embeddings.npz --protocol casiab --out report
  mcl-jax score --embeddings E.npz --protocol gait3d --partition Gait3D.json --rerank --out report
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--embeddings", required=True, help=".npz file with embeddings, subjects, conditions and views"
    )
    parser.add_argument(
        "--protocol", required=True, help=f"{', '.join(PROTOCOLS)}, or a JSON file of your own"
    )
    parser.add_argument(
        "--metric", default="euc", choices=get_args(Metric), help="distance: Euclidean or cosine (euc)"
    )
    parser.add_argument(
        "--partition", help="partition JSON with PROBE_SET or GALLERY_SET; needed by gait3d, for example"
    )
    parser.add_argument(
        "--rerank",
        nargs="?",
        const=True,
        metavar="K1,K2,LAMBDA",
        help="re-rank by k-reciprocal neighbours; default values: the protocol's, mostly 20,6,0.3",
    )
    parser.add_argument("--out", required=True, help="folder for metrics.json, table.txt and pictures")


def run(arguments: argparse.Namespace) -> None:
    """Scores the embeddings, writes the report and prints its table.

    Raises:
        UserError: if a file cannot be used, or the embeddings do not fit the protocol. In that last case an
            earlier report in the folder is gone too: its figures are not those of these embeddings.
    """
    logging.set_verbosity(logging.INFO)
    embeddings = EmbeddingSet.load(arguments.embeddings)
    probe_set = gallery_set = None
    if arguments.partition is not None:
        probe_set = read_probe_set(Path(arguments.partition))
        gallery_set = read_gallery_set(Path(arguments.partition))
    protocol = find_protocol(arguments.protocol)
    rerank = protocol.rerank if arguments.rerank else None
    if isinstance(arguments.rerank, str):
        rerank = Rerank.parse(arguments.rerank)
    clear_report(arguments.out)
    try:
        report = score(
            embeddings,
            protocol,
            metric=arguments.metric,
            probe_set=probe_set,
            gallery_set=gallery_set,
            rerank=rerank,
        )
    except DataError as error:
        raise DataError(f"{arguments.embeddings}: {error}") from None
    scored = {"file": str(Path(arguments.embeddings).absolute()), "digest": embeddings.digest}
    report.add_origin(embeddings=scored, made=made_now())
    report.write(arguments.out)
    print(report)
