"""Put the newest weights of a run into the package, without the classifier of its training subjects.

python scripts/pack_pretrained.py world/run
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from mcl_jax.command_line import exit_code
from mcl_jax.models.model import model_class
from mcl_jax.pretrained import save_weights
from mcl_jax.pretrained.files import FOLDER
from mcl_jax.trees import get_leaf, replace_leaves
from mcl_jax.weights import load_weights


def pack(run: Path, out: Path) -> None:
    """Write the two files of `mcl_jax.pretrained`."""
    weights = load_weights(run)
    block, params = dict(weights.block), weights.params
    classifier = model_class(block["name"]).CLASSIFIER
    if classifier is not None:
        # Whom it was trained on helps nobody, and is most of the file.
        one = np.zeros_like(get_leaf(params, classifier)[..., :1])
        params = replace_leaves(params, {classifier: one})
        block["num_classes"] = 1
    config = json.loads((run / "config_train.json").read_bytes())
    config["data"]["root"] = config["data"]["partition"] = ""  # places on one machine
    save_weights(out, block, params, weights.batch_stats, step=weights.step, config=config)
    print(f"step {weights.step} of {run} is in {out}")


def main() -> None:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="workdir of the run")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder (the package's own)")
    args = parser.parse_args()
    pack(args.run, args.out)


if __name__ == "__main__":
    sys.exit(exit_code(main))
