"""Runs for fault injection: their data, commands and results."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from mcl_jax.main import main
from mcl_jax.walkers import write_walkers
from mcl_jax.weights.load import load_weights

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.002


@dataclasses.dataclass
class Bench:
    """The folder of all runs, and how long they are."""

    folder: Path
    steps: int
    test_every: int

    def settings(self, workdir: Path, *more: str) -> list[str]:
        root = self.folder / "walkers"
        given = {
            "data.root": root,
            "data.partition": f"{root}_partition.json",
            "data.sampling.frames": 2,
            "data.workers": 0,
            "model.channels": "(2,2,3,3)",
            "model.embed_dim": 3,
            "train.batch": "(2,2)",
            "train.log_every": 1,
            "train.save_every": 2,
            "train.steps": self.steps,
            "train.test_every": self.test_every,
        }
        config = [f"--config.{key}={value}" for key, value in given.items()]
        return ["--config=walkers_mcl", f"--workdir={workdir}", *config, *more]

    def prepare(self) -> None:
        """Makes the people and the undisturbed run, if they are not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "walkers").exists():
            conditions = ("nm-01", "nm-05")  # few: each of some hundred runs ends with a test
            write_walkers(
                self.folder / "walkers",
                subjects=6,
                test_subjects=3,
                views=("036", "090"),
                conditions=conditions,
                frames=6,
                workers=0,
            )
        if not (self.folder / "undisturbed.json").exists():
            # A first one compiles; the last says how long a run takes.
            for _ in range(1 if self.compiled.exists() else 2):
                shutil.rmtree(self.folder / "undisturbed", ignore_errors=True)
                started = time.monotonic()
                run = Run(self, self.folder / "undisturbed")
                if run.wait() != 0:
                    raise SystemExit(f"the undisturbed run failed:\n{run.errors()}")
            seconds = time.monotonic() - started
            known = {"seconds": seconds, "fingerprint": fingerprint(self.folder / "undisturbed")}
            (self.folder / "undisturbed.json").write_text(json.dumps(known))

    @property
    def compiled(self) -> Path:
        """Where compiled programs are kept."""
        return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or self.folder / "compiled")

    def known(self) -> dict:
        return json.loads((self.folder / "undisturbed.json").read_text())

    def record(self, **what: object) -> None:
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(what) + "\n")


class Run:
    """A training run in a process of its own."""

    def __init__(self, bench: Bench, workdir: Path, *more: str, cold: bool = False, fresh: bool = False):
        """Starts it: `cold` without compiled programs, `fresh` in an interpreter of its own."""
        self.workdir = workdir
        self.before = newest(workdir)
        self._log = bench.folder / f"log-{os.getpid()}"
        self._cache = bench.folder / f"cold-{os.getpid()}" if cold else bench.compiled
        if cold:
            shutil.rmtree(self._cache, ignore_errors=True)
        arguments = bench.settings(workdir, *more)
        for path in (self.out, self.err):
            path.write_text("")
        self.stretches = self._size()
        if fresh:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            environment["JAX_COMPILATION_CACHE_DIR"] = str(self._cache)
            with self.out.open("wb") as out, self.err.open("wb") as err:
                line = [sys.executable, "-m", "mcl_jax.main", *arguments]
                self._process = subprocess.Popen(line, env=environment, cwd=ROOT, stdout=out, stderr=err)
        else:
            self._process = multiprocessing.get_context("fork").Process(target=self._train, args=(arguments,))
            self._process.start()

    @property
    def out(self) -> Path:
        return self._log.with_suffix(".out")

    @property
    def err(self) -> Path:
        return self._log.with_suffix(".err")

    def _train(self, arguments: list[str]) -> None:
        for path, stream in ((self.out, 1), (self.err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
        jax.config.update("jax_compilation_cache_dir", str(self._cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        code = main(arguments)
        sys.stdout.flush()
        os._exit(code)

    @property
    def ended(self) -> bool:
        return self._code() is not None

    def _code(self) -> int | None:
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = 600.0) -> int | None:
        """Returns the exit code; None, and no process, if it hangs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (code := self._code()) is not None:
                return code
            time.sleep(POLL_SECONDS)
        self.send(signal.SIGKILL)
        return None

    def errors(self) -> str:
        return self.err.read_text()

    def printed(self) -> int:
        """Returns the last step that the run has told of."""
        return max((int(step) for step in re.findall(r"^step (\d+)/", self.out.read_text(), re.M)), default=0)

    def is_saving(self) -> bool:
        return any(self.workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))

    def is_testing(self) -> bool:
        return "testing on" in self.errors()

    def is_compiling(self) -> bool:
        return self._size() > self.stretches

    def _size(self) -> int:
        path = self.workdir / "stretches.jsonl"
        return path.stat().st_size if path.exists() else 0


def newest(workdir: Path) -> int:
    """Returns the newest step that is on disk; 0 for none."""
    return max((int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit()), default=0)


def fingerprint(workdir: Path) -> str:
    """Returns a digest of the last parameters, statistics and test embeddings, made in another process."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def digest() -> None:
        weights = load_weights(workdir)
        sha = hashlib.sha256(str(weights.step).encode())
        for leaf in jax.tree.leaves((weights.params, weights.batch_stats)):
            sha.update(np.ascontiguousarray(leaf).tobytes())
        with np.load(workdir / "test" / "embeddings.npz") as embeddings:
            sha.update(embeddings["embeddings"].tobytes())
        send.send(sha.hexdigest())

    process = multiprocessing.get_context("fork").Process(target=digest)
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return "unreadable"
    finally:
        process.join()
