"""Times a process from its start to its first training step, with an empty and with a full cache.

    python benchmarks/first_step.py --configs casiab_mcl gait3d_deepgaitv2

Batches of (2, 2) sequences of 8 frames of walkers, in float32. The process is stopped after it has printed
its first step; run nothing else on the machine.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mcl_jax.walkers import write_walkers


def first_step(config: str, walkers: Path, folder: Path, cache: Path) -> float:
    """Seconds."""
    flags = {
        "data.dataset": "casiab",
        "data.root": walkers,
        "data.partition": f"{walkers}_partition.json",
        "data.workers": 0,
        "data.sampling.mode": "fixed_unordered",
        "data.sampling.frames": 8,
        "train.batch": "(2, 2)",
        "train.precision": "float32",
        "train.log_every": 1,
    }
    command = [sys.executable, "-m", "mcl_jax.main", "--config", config, f"--workdir={folder}"]
    command += [f"--config.{key}={value}" for key, value in flags.items()]
    start = time.monotonic()
    caches = {"JAX_COMPILATION_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | caches) as process:
        for line in process.stdout:
            if line.startswith("step 1/"):
                taken = time.monotonic() - start
                process.send_signal(signal.SIGKILL)
                return taken
    raise SystemExit(f"{config} ended before its first step")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", default=["casiab_mcl", "gait3d_deepgaitv2"])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        walkers = folder / "walkers"
        write_walkers(walkers, subjects=4, test_subjects=2, views=("090",), frames=8, workers=0)
        print(f"{'':<18}{'cold s':>8}{'warm s':>8}")
        for config in args.configs:
            taken = [
                first_step(config, walkers, folder / f"{config}-{i}", folder / f"{config}-cache")
                for i in range(1 + args.rounds)
            ]
            print(f"{config:<18}{taken[0]:>8.1f}{sorted(taken[1:])[args.rounds // 2]:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
