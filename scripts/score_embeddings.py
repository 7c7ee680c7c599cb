"""Scores saved embeddings by a protocol: prints the table, writes numbers and pictures.

python scripts/score_embeddings.py --embeddings E.npz --protocol casiab --out report
"""

import sys

from mcl_jax.command_line import exit_code
from mcl_jax.evaluation.command import parse_args, run

if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(parse_args(description=__doc__))))
