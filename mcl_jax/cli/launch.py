"""Command-line options of a run, and its entry point: the same for `mcl_jax.main` and `mcl-jax train`."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mcl_jax.config import validate
from mcl_jax.data.feed.clip_sheet import clip_sheet, encode_png
from mcl_jax.describe import describe, describe_on
from mcl_jax.evaluate import test
from mcl_jax.ops.cpu import kernels
from mcl_jax.runtime.hosts import exiting_alone, join, local_count, run_local
from mcl_jax.runtime.preemption import Preemption
from mcl_jax.runtime.settings import enable_compilation_cache, keep_memory, show_own_log
from mcl_jax.train_loop import train
from mcl_jax.train_start import open_data
from mcl_jax.utils.files import write_atomically
from mcl_jax.workdir.location import check_workdir


def _flag(default: Any, meaning: str, **others: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": meaning, **others})


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The flags of a run, each with its help text."""

    workdir: str | None = _flag(None, "Folder of the run (runs/NAME_OF_THE_RECIPE).")
    phase: str = _flag("train", "Train, then test; or test only.", choices=("train", "test"))
    show_clips: str | None = _flag(None, "Draw the first training batch as this PNG file, then stop.")
    describe: bool = _flag(
        False, "Print all config keys, and parameters, FLOPs and memory of the model, then stop."
    )
    gpu: str | None = _flag(None, "With --describe: a graphics card, such as h100; it need not be installed.")
    devices: int = _flag(1, "With --gpu: number of cards.")
    max_minutes: float | None = _flag(None, "Save and exit with code 75 after this many minutes.")
    accept_changes: bool = _flag(False, "Resume although config or data have changed, and record the change.")
    coordinator: str | None = _flag(None, "Address HOST:PORT of host 0, for training on several hosts.")
    hosts: str | None = _flag(
        None,
        "Number of hosts, with --coordinator and --host; or auto: ask SLURM, Open MPI or the cloud; or "
        "local:N: start N processes on this machine.",
    )
    host: int | None = _flag(None, "Index of this host, from 0; with --coordinator.")
    lost_host_seconds: int = _flag(45, "Seconds without a heartbeat after which a host counts as lost.")


def flag_fields() -> dict[str, tuple[type, dataclasses.Field[Any]]]:
    """Returns the fields of `RunOptions` by name, each with the plain type of its value."""
    kinds = {"workdir": str, "max_minutes": float, "host": int}
    return {
        field.name: (type(field.default) if field.default is not None else kinds.get(field.name, str), field)
        for field in dataclasses.fields(RunOptions)
    }


def launch(config: ConfigDict, name: str, options: RunOptions) -> None:
    """Trains, tests, describes or draws, as the options say.

    Args:
        config: the config of the run.
        name: the config's name; it names the run's folder if the options do not.
        options: what to do.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    validate(config)
    workdir = Path(options.workdir) if options.workdir else Path("runs") / name
    check_workdir(workdir, config.data.root)
    with ready(options):
        _work(config, workdir, options)


@contextlib.contextmanager
def ready(options: RunOptions) -> Iterator[None]:
    """Sets up the log, the caches and the hosts of a run, for the length of a `with` block.

    Args:
        options: only the flags about hosts are used.

    Raises:
        UserError: if the hosts do not find each other.
        SystemExit: with the exit code of the processes that `--hosts=local:N` starts in place of this one.
    """
    show_own_log()
    enable_compilation_cache()
    keep_memory()
    if (count := local_count(options.hosts)) is not None:
        sys.exit(run_local(sys.orig_argv, count))
    join(options.hosts, options.coordinator, options.host, heartbeat_timeout=options.lost_host_seconds)
    with exiting_alone():
        yield


def _work(config: ConfigDict, workdir: Path, options: RunOptions) -> None:
    if options.describe:
        on = options.gpu
        print(describe(config) if on is None else describe_on(config, on, options.devices))
        return
    if options.show_clips:
        loader = open_data(config).loader
        sheet = clip_sheet(loader(0), names=loader.places(0), one=loader.one)
        write_atomically(options.show_clips, encode_png(sheet))
        print(f"wrote the first batch to {options.show_clips}")
        return
    kernels.prepare()
    if options.phase == "test":
        test(config, workdir)
    else:
        with Preemption(options.max_minutes) as preemption:
            train(config, workdir, accept_changes=options.accept_changes, preemption=preemption)
