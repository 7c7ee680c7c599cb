"""Prepares an unpacked gait dataset for training.

    python scripts/prepare_data.py casiab --src CASIA-B-silhouettes --out data/casiab --workers 8
    python scripts/prepare_data.py grew --src GREW --out data/grew --format records
    python scripts/prepare_data.py tree --src an/opengait/pkl/tree --out data/mine --format records

Run it again to continue after an interruption. docs/data.md has the layouts and formats.
"""

import sys

from mcl_jax.cli.program import run_command

if __name__ == "__main__":
    sys.exit(run_command("prepare", sys.argv[1:], prog=sys.argv[0], description=__doc__))
