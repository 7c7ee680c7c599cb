"""Compiles the recipes for GPUs that are not there: what compiles, its memory and its least time.

    python benchmarks/gpu_compile.py results.jsonl                          # everything, hours on two cores
    python benchmarks/gpu_compile.py results.jsonl --cards h100 --tasks step embedding
    python benchmarks/gpu_compile.py results.jsonl --table                  # as Markdown

Needs the extra `gpu-check`. Results are added to the file one by one, and those that are in it are not made
again. Nothing is measured: times are the least that a data sheet allows.
"""

import argparse
import itertools
import json
from pathlib import Path

from mcl_jax.config import load_config, recipes
from mcl_jax.gpu_check.cards import CARDS
from mcl_jax.gpu_check.estimate import Task, estimate

CLASSES = {"casiab": 74, "gait3d": 3000, "grew": 20000, "oumvlp": 5153, "walkers": 100}
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


def table(rows: list[dict], task: str) -> str:
    """Returns memory and least time of a task by recipe and card, as Markdown."""
    cards = [card for card in CARDS if any(r["card"] == card and r["task"] == task for r in rows)]
    names = [CARDS[card].name for card in cards]
    text = [f"| {task} | " + " | ".join(names) + " |", "|---" * (len(cards) + 1) + "|"]
    found = {(r["card"], r["recipe"]): r for r in rows if r["task"] == task}
    for recipe in RECIPES:
        if any((card, recipe) in found for card in cards):
            text.append(f"| `{recipe}` | " + " | ".join(_cell(found.get((c, recipe))) for c in cards) + " |")
    return "\n".join(text)


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    if row["compiled"] is None:
        return "**aborts**"
    too_much = "" if row["fits"] == "yes" else " (no)" if row["fits"] == "no" else f" ({row['fits']})"
    return f"{row['memory_gb']:.1f} GB{too_much}, {1e3 * row['seconds']:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--cards", nargs="+", choices=CARDS, default=list(CARDS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--table", action="store_true", help="print what is in the file")
    args = parser.parse_args()
    lines = args.results.read_text().splitlines() if args.results.exists() else []
    rows = [json.loads(line) for line in lines]
    if args.table:
        print("\n\n".join(table(rows, task) for task in args.tasks))
        return
    done = {(row["card"], row["recipe"], row["task"]) for row in rows}
    for task, card, recipe in itertools.product(args.tasks, args.cards, args.recipes):
        if (card, recipe, task) not in done:
            row = compiled(card, recipe, task)
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(card, recipe, task, _cell(row), flush=True)


if __name__ == "__main__":
    main()
