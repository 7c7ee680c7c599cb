"""Memory of a training step of the published recipes on one device, with and without `train.remat`.

    python benchmarks/memory.py casiab_gaitset casiab_mcl grew_mcl gait3d_deepgaitv2

Computed, not measured: it is what the program compiled for this machine's device reserves, and nothing runs.
Of a CPU's program the figures for bfloat16 say nothing about a GPU: its convolutions are in float32.
"""

import argparse

from mcl_jax.build import build_train_model
from mcl_jax.config import frame_sampling, load_config, model_block, recipes
from mcl_jax.data.feed.loaders import train_row_shapes_of
from mcl_jax.describe import memory_of_a_step

SUBJECTS = {"casiab": 74, "grew": 20_000, "gait3d": 3_000}
"""Dataset → subjects to train on, which a classifier has a column each for."""


def line(recipe: str, precision: str) -> str:
    """The row of one recipe: GiB of activations without and with `train.remat`, and of state and batch."""
    config = load_config(recipe)
    config.train.precision = precision
    model = build_train_model(config, model_block(config), SUBJECTS[config.data.dataset])
    shape = train_row_shapes_of(config.train.batch, frame_sampling(config), sizes=1)[-1]
    cells = []
    for remat in (False, True):
        memory = memory_of_a_step(config, model, shape, remat=remat)
        if memory is None:
            raise SystemExit("this device's compiler does not tell its memory")
        cells.append(f"{memory.activations / 2**30:.1f}")
    frames = f"{shape.rows} × {shape.slots}"
    return f"| {recipe} | {precision} | {frames} | {' | '.join(cells)} | {memory.arguments / 2**30:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="+", choices=recipes())
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    print("| recipe | precision | rows × frames | activations, GiB | with train.remat | state and batch |")
    print("|---|---|---|---|---|---|")
    for recipe in args.recipes:
        print(line(recipe, args.precision), flush=True)


if __name__ == "__main__":
    main()
