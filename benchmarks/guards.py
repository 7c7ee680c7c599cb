"""Times the training step with and without its guards, which check every number.

    python benchmarks/guards.py

It times the step of configs/walkers_mcl.py, a small GaitBase, on one device. Both sides take turns in one
process; run nothing else on the machine. The guards compute the norm of the gradient and check that it, the
loss and the new state are finite. The host reads the result two steps later, as in training.
"""

import argparse
from collections.abc import Callable

import jax
import numpy as np
from side_by_side import take_turns

from mcl_jax.build import allowed_nonfinite, build_optimization, build_train_model
from mcl_jax.config import load_config, model_block
from mcl_jax.runtime.settings import compiler_options
from mcl_jax.training.nonfinite import StepMonitor, guarded, start_counter
from mcl_jax.training.state import create_state
from mcl_jax.training.step import make_train_step

STEPS = 3  # in one turn
SUBJECTS = 50


def sides() -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns two functions that train from the same state, with and without guards."""
    config = load_config("walkers_mcl")
    model = build_train_model(config, model_block(config), SUBJECTS)
    optimizer = build_optimization(config).optimizer
    update = make_train_step(model, optimizer, config.loss.to_dict())
    subjects, walks = config.train.batch
    rng = np.random.default_rng(0)
    slots = config.data.sampling.frames
    batch = {
        "frames": rng.integers(0, 2, (subjects * walks, slots, 64, 44), np.uint8) * np.uint8(255),
        "segment_ids": np.zeros((subjects * walks, slots), np.int32),
        "labels": np.repeat(np.arange(subjects, dtype=np.int32), walks)[:, None],
    }

    def unguarded(state, batch):
        state, metrics = update(state, batch)
        return state, metrics["loss"]  # the gradient's norm is not used, so XLA drops it

    allowed = allowed_nonfinite(config)
    options = {"donate_argnums": 0, "compiler_options": compiler_options(training=True)}
    plain, safe = jax.jit(unguarded, **options), jax.jit(guarded(update, allowed), **options)
    states = [create_state(*model.initial_arrays(0), optimizer) for _ in range(2)]
    counter = jax.device_put(start_counter())

    def without() -> None:
        for _ in range(STEPS):
            states[0], loss = plain(states[0], batch)
        loss.block_until_ready()

    def with_guards() -> None:
        nonlocal counter
        in_flight = StepMonitor(allowed)
        for step in range(STEPS):
            states[1], counter, metrics = safe(states[1], counter, batch | {"leave": np.zeros(1, bool)})
            in_flight.add(step, metrics)
        in_flight.settle()

    return without, with_guards


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    without, with_guards = take_turns(*sides(), args.rounds)
    for name, (wall, cpu) in (("without guards", without), ("with guards", with_guards)):
        print(f"{name:<15} {1e3 * wall / STEPS:7.1f} ms a step, {1e3 * cpu / STEPS:7.1f} ms of CPU")
    print(
        f"guards cost {100 * (with_guards[0] / without[0] - 1):+.1f} % ({args.rounds} turns of {STEPS} steps)"
    )


if __name__ == "__main__":
    main()
