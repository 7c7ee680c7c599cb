"""Runs `python -m mcl_jax.main` in a process forked from a server that has imported everything already."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PATIENCE = 300.0  # seconds
_IMPORTED = ["mcl_jax.main", "mcl_jax.train_loop"]


def run_main(
    arguments: Sequence[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Returns what a run of the program ends with and says.

    Args:
        arguments: of the program.
        environment: of its process.
        folder: its working directory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch, "out"), Path(scratch, "err")
        process = context.Process(target=_run, args=(list(arguments), environment, folder, out, err))
        process.start()
        process.join(_PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        return subprocess.CompletedProcess(
            list(arguments), process.exitcode or 0, out.read_text(), err.read_text()
        )


def _run(arguments: list[str], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from mcl_jax.main import main

    try:
        code = main(arguments)
    except SystemExit as end:  # flags that cannot be read
        code = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
