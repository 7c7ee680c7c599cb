"""Writes synthetic walking people as a silhouette tree like CASIA-B's.

python scripts/make_walkers.py --out data/walkers --subjects 100 --test-subjects 50 --workers 2
"""

import sys

from mcl_jax.cli.program import run_command

if __name__ == "__main__":
    sys.exit(run_command("walkers", sys.argv[1:], prog=sys.argv[0], description=__doc__))
