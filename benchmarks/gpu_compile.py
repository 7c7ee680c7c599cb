"""Compiles the recipes for GPUs that are not present, and records their memory and minimum time.

    python benchmarks/gpu_compile.py results.jsonl                          # everything, hours on two cores
    python benchmarks/gpu_compile.py results.jsonl --cards h100 --tasks step embedding
    python benchmarks/gpu_compile.py results.jsonl --docs docs              # tables of the docs

Needs the extra `gpu-check`. Results are added to the file one by one; existing results are not made again.
Equal programs of different recipes are compiled once.
Nothing is measured: times are the minimum by the card's data sheet.
"""

import argparse
import itertools
import json
from pathlib import Path

from docs_table import write_between

from mcl_jax.config import load_config, model_block, recipes
from mcl_jax.gpu_check.cards import CARDS
from mcl_jax.gpu_check.estimate import Task, estimate

CLASSES = {
    "casiab": 74,
    "casiae": 200,
    "ccpg": 100,
    "gait3d": 3000,
    "grew": 20000,
    "oumvlp": 5153,
    "sustech1k": 250,
    "walkers": 100,
}
RECIPES = [name for name in recipes() if name.split("_")[0] in CLASSES]

# Task → (program, number of devices).
TASKS = {
    "step": (Task("step", "bfloat16", False), 1),
    "embedding": (Task("embedding", "float16", None), 1),
    "step-8": (Task("step", "bfloat16", False), 8),
    "step-float32": (Task("step", "float32", False), 1),
    "step-remat": (Task("step", "bfloat16", True), 1),
    "embedding-float32": (Task("embedding", "float32", None), 1),
    "embedding-bfloat16": (Task("embedding", "bfloat16", None), 1),
    "step-float32-remat-8": (Task("step", "float32", True), 8),
}


def compiled(card: str, recipe: str, task: str) -> dict[str, object]:
    """Compiles one program; returns its figures."""
    program, devices = TASKS[task]
    config = load_config(recipe)
    classes = CLASSES[recipe.split("_")[0]] if "num_classes" in config.model else None
    found = estimate(config, classes, CARDS[card], devices, program)
    return found.as_dict() | {"card": card, "recipe": recipe, "task": task}


def program_key(recipe: str, task: str) -> str:
    """Returns a string that is equal for recipes whose programs are equal.

    An embedding depends on the model without its classifier and on the rows; a step, on nearly everything.
    """
    config = load_config(recipe)
    if TASKS[task][0].remat is None:
        block = {key: value for key, value in model_block(config).items() if key != "num_classes"}
        return json.dumps([block, config.eval.rows, config.eval.slots], sort_keys=True)
    parts = {name: config[name].to_dict() for name in ("model", "loss", "optimizer", "schedule", "train")}
    sampling = config.data.sampling.to_dict()
    return json.dumps([parts, sampling, CLASSES[recipe.split("_")[0]]], sort_keys=True)


def write_docs(rows: list[dict], docs: Path) -> None:
    """Writes the tables between their markers in docs/gpus.md and docs/training.md."""
    found = {(row["card"], row["recipe"], row["task"]): row for row in rows}
    every_card = {CARDS[card].name: card for card in CARDS}
    variants = [
        *("step", "step-remat", "step-float32", "step-8", "step-float32-remat-8"),
        *("embedding", "embedding-float32", "embedding-bfloat16"),
    ]
    by_task = {
        "step": table(found, {name: (card, "step") for name, card in every_card.items()}),
        "embedding": table(found, {name: (card, "embedding") for name, card in every_card.items()}),
        "variants": table(found, {task: ("h100", task) for task in variants}),
    }
    for name, text in by_task.items():
        write_table(docs / "gpus.md", name, text)
    columns = {"bfloat16": "step", "with `train.remat`": "step-remat", "float32": "step-float32"}
    memory = table(found, {name: ("h100", task) for name, task in columns.items()}, memory_only=True)
    write_table(docs / "training.md", "memory", memory)


def write_table(page: Path, name: str, text: str) -> None:
    """Writes a table of this name into a page."""
    write_between(page, f"<!-- compiled: {name} -->", f"<!-- end: {name} -->", f"\n\n{text}\n\n")


def table(found: dict, columns: dict[str, tuple[str, str]], memory_only: bool = False) -> str:
    """Returns memory and minimum time by recipe as Markdown.

    Args:
        found: figures by (card, recipe, task).
        columns: name of a column → (card, task).
        memory_only: whether to leave out the time.
    """
    lines = ["| recipe | " + " | ".join(columns) + " |", "|---" + "|--:" * len(columns) + "|"]
    for recipe in RECIPES:
        rows = [found.get((card, recipe, task)) for card, task in columns.values()]
        if any(rows):
            lines.append(f"| `{recipe}` | " + " | ".join(_cell(row, memory_only) for row in rows) + " |")
    return "\n".join(lines)


def _cell(row: dict | None, memory_only: bool) -> str:
    if row is None:
        return "–"
    if row["compiled"] is None:
        return "**aborts**"
    memory = f"{row['memory_gb']:.1f}"
    fits = {"yes": "", "no": ", too much"}.get(row["fits"], ", tight")
    return memory if memory_only else f"{memory}{fits}; {1e3 * row['seconds']:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--cards", nargs="+", choices=CARDS, default=list(CARDS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument(
        "--docs", type=Path, help="write the tables of the file into these pages, and compile nothing"
    )
    args = parser.parse_args()
    lines = args.results.read_text().splitlines() if args.results.exists() else []
    rows = [json.loads(line) for line in lines]
    if args.docs:
        write_docs(rows, args.docs)
        return
    done = {(row["card"], row["recipe"], row["task"]) for row in rows}
    known = {(row["card"], row["task"], program_key(row["recipe"], row["task"])): row for row in rows}
    for task, card, recipe in itertools.product(args.tasks, args.cards, args.recipes):
        if (card, recipe, task) not in done:
            key = (card, task, program_key(recipe, task))
            row = known[key] | {"recipe": recipe} if key in known else compiled(card, recipe, task)
            known[key] = row
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(card, recipe, task, _cell(row, memory_only=False), flush=True)


if __name__ == "__main__":
    main()
