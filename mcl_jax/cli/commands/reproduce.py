"""`mcl-jax reproduce`: measures a published run again and compares the figures."""

import argparse
from pathlib import Path

from mcl_jax.cli.overrides import parse_config
from mcl_jax.ops.cpu import kernels
from mcl_jax.reproduction.record import JSON, MARKDOWN
from mcl_jax.reproduction.reproduce import reproduce, task_of
from mcl_jax.reproduction.verdict import Row, table
from mcl_jax.runtime.settings import enable_compilation_cache, keep_memory, show_own_log

HELP = "test published weights on your copy of the dataset, and compare with the published figures"

EXAMPLES = """\
  mcl-jax reproduce casiab_mcl --root CASIA-B-pkl
  mcl-jax reproduce gait3d_mcl --root Gait3D-pkl --partition Gait3D.json
  mcl-jax reproduce casiab_gaitset --root CASIA-B-pkl --train      # trains first
  mcl-jax reproduce grew_mcl --root GREW-pkl                       # writes the submission
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; some config keys are accepted too."""
    parser.add_argument("name", metavar="NAME", help="name of a published run; see `mcl-jax pretrained`")
    parser.add_argument("--root", required=True, metavar="DATASET", help="folder of the dataset")
    parser.add_argument(
        "--partition", default="", help="partition JSON, if the dataset has no built-in split"
    )
    parser.add_argument("--out", help="folder for the results; the same one continues (reproductions/NAME)")
    parser.add_argument("--train", action="store_true", help="train by the recipe, instead of using weights")
    parser.add_argument("--model", default="", help="use these weights instead of the published ones")
    parser.set_defaults(config_keys=[])


def run(arguments: argparse.Namespace) -> None:
    """Prints the comparison and writes the record.

    Raises:
        UserError: if dataset, weights or settings are unsuitable.
    """
    task = task_of(arguments.name, model=arguments.model, training=arguments.train)
    config = parse_config(task.recipe, arguments.config_keys)
    config.data.root, config.data.partition = arguments.root, arguments.partition
    out = Path(arguments.out or Path("reproductions") / task.name)
    show_own_log()
    enable_compilation_cache()
    keep_memory()
    kernels.prepare()
    record = reproduce(task, config, out)
    rows = [Row(row["group"], row["figure"], row["published"], row["measured"]) for row in record["figures"]]
    if rows:
        print(f"\n{task.name}, in %\n{table(rows)}")
    print(f"\n{record['verdict']}")
    for reason in record["reasons"]:
        print(f"usual reason: {reason}")
    print(f"wrote {out / JSON} and {out / MARKDOWN}; docs/reproductions.md says how to send them in")
