"""Joins several hosts, or starts several on one machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import jax

from mcl_jax.errors import ConfigError, UserError

_LOCAL = "local:"
_MOST, _MOST_LOCAL = 100_000, 256
_GRACE_SECONDS = 60.0  # for the other hosts to notice the missing heartbeat
_POLL_SECONDS = 0.1


def join(
    hosts: str | None, coordinator: str | None, host: int | None, *, heartbeat_timeout: int = 45
) -> None:
    """Joins the other hosts; call it before any device is used. A single host does nothing.

    Args:
        hosts: their number; "auto" asks SLURM, Open MPI or the cloud, through `jax.distributed`.
        coordinator: HOST:PORT of host 0; None with "auto".
        host: index of this one, from 0; None with "auto".
        heartbeat_timeout: seconds without a heartbeat after which JAX ends the processes of all hosts.

    Raises:
        ConfigError: if the flags do not fit together, or the addresses cannot be found.
    """
    if hosts is None and coordinator is None and host is None:
        return
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if hosts == "auto":
        if coordinator is not None or host is not None:
            raise ConfigError("--hosts=auto: finds addresses by itself; leave out --coordinator and --host")
        try:
            jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat_timeout)
        except (ValueError, KeyError):  # a missing environment variable
            raise ConfigError(
                "--hosts=auto: found no SLURM, Open MPI or cloud that lists the hosts; give "
                "--coordinator, --hosts and --host"
            ) from None
        return
    count = _count("--hosts", hosts)
    if coordinator is None or ":" not in coordinator or host is None:
        raise ConfigError(f"--hosts={count}: needs --coordinator=HOST:PORT of host 0, and --host of this one")
    if not 0 <= host < count:
        raise ConfigError(f"--host: is {host}; with --hosts={count} it is 0 to {count - 1}")
    jax.distributed.initialize(coordinator, count, host, heartbeat_timeout_seconds=heartbeat_timeout)


@contextlib.contextmanager
def exiting_alone() -> Iterator[None]:
    """Context in which an error on one of several hosts ends its process at once, with exit code 1.

    Python's usual exit would wait for the other hosts, which wait for this one. JAX ends them once they miss
    its heartbeat.
    """
    try:
        yield
    except UserError as error:
        if jax.process_count() == 1:
            raise
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def local_count(hosts: str | None) -> int | None:
    """Returns N of `--hosts=local:N`; None for any other value.

    Raises:
        ConfigError: if N is not a positive whole number.
    """
    if hosts is None or not hosts.startswith(_LOCAL):
        return None
    return _count("--hosts=local", hosts.removeprefix(_LOCAL), _MOST_LOCAL)


def run_local(argv: Sequence[str], count: int) -> int:
    """Runs a command line as several hosts of this machine, each in a process with all of its devices.

    SIGTERM and Ctrl-C are passed on. After one host fails, the others get a minute to end by themselves.

    Args:
        argv: the interpreter and its arguments, as `sys.orig_argv` has them; `--hosts` is replaced.
        count: how many hosts.

    Returns:
        Exit code of the host that failed first; 0 if none did.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    line = [sys.executable, *_without_hosts(argv[1:]), f"--coordinator={coordinator}"]
    processes = [
        subprocess.Popen(
            [*line, f"--hosts={count}", f"--host={host}"],
            # Otherwise hosts would get the terminal's signals twice, and a second one means "exit at once".
            start_new_session=True,
        )
        for host in range(count)
    ]

    def hand_on(number: int, frame: object) -> None:
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _wait(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen]) -> int:
    code, until = 0, float("inf")
    while True:
        codes = [process.poll() for process in processes]
        if not code and any(codes):
            code, until = next(c for c in codes if c), time.monotonic() + _GRACE_SECONDS
        if None not in codes or time.monotonic() > until:
            return 128 - code if code < 0 else code
        time.sleep(_POLL_SECONDS)


def _without_hosts(arguments: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip or name in ("--hosts", "-hosts"):
            skip = not skip and not equals
            continue
        kept.append(argument)
    return kept


def _count(flag: str, value: str | None, most: int = _MOST) -> int:
    if value is None or not (value.isascii() and value.isdecimal()) or len(value) > 9 or int(value) < 1:
        raise ConfigError(f"{flag}: is {value}; expected a positive whole number, auto, or local:N")
    if int(value) > most:
        raise ConfigError(f"{flag}: is {value}; must be at most {most}")
    return int(value)
