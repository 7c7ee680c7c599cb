"""Scores saved embeddings by a protocol: prints the table, writes numbers and pictures.

python scripts/score_embeddings.py --embeddings E.npz --protocol casiab --out report
"""

import sys

from mcl_jax.cli.program import run_command

if __name__ == "__main__":
    sys.exit(run_command("score", sys.argv[1:], prog=sys.argv[0], description=__doc__))
