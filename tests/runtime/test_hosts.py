"""Hosts: invalid combinations of flags, several hosts on one machine; tests/test_main.py trains on two."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from toy_runs import ROOT, command, flags, run_quickly

from mcl_jax.errors import ConfigError
from mcl_jax.runtime import hosts
from mcl_jax.weights.load import load_weights

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("2", None, 0), "needs --coordinator=HOST:PORT"),
        (("2", "here", 0), "needs --coordinator=HOST:PORT"),
        (("2", "here:1", None), "and --host of this one"),
        (("2", "here:1", 2), "--host: is 2; with --hosts=2 it is 0 to 1"),
        (("two", "here:1", 0), "--hosts: is two; expected a positive whole number"),
        ((None, "here:1", 0), "--hosts: is None"),
        (("auto", "here:1", None), "leave out --coordinator"),
    ],
)
def test_flags_that_do_not_fit_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        hosts.join(*given)


def test_where_nothing_tells_the_hosts_that_is_said():
    """In a process of its own: this one has touched its devices already."""
    code = """
from mcl_jax.runtime.hosts import join
try: join('auto', None, None)
except Exception as e: print(e)
"""
    cloud = ("SLURM_", "OMPI_", "TPU_", "KUBERNETES_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(cloud)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("--hosts=auto: found no SLURM, Open MPI or cloud"), done.stderr


def test_one_host_alone_joins_nobody(monkeypatch):
    joined = []
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda *arguments: joined.append(arguments))
    hosts.join(None, None, None)
    assert joined == []


@pytest.mark.parametrize("value", ["local:", "local:0", "local:-1", "local:a"])
def test_a_number_of_local_hosts_that_cannot_be(value):
    with pytest.raises(ConfigError, match="expected a positive whole number"):
        hosts.local_count(value)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Returns a function that has a script run in the place of each host, and the launcher's exit code."""

    def run(script: str) -> int:
        path = tmp_path / "python"
        path.write_text(f"#!{PYTHON}\nimport os, signal, sys, time\n{textwrap.dedent(script)}")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))
        return hosts.run_local(["python", "--hosts", "local:2", "--workdir=a"], 2)

    return run


def test_each_host_gets_its_own_flags_once(program, tmp_path):
    script = f"open(os.path.join({str(tmp_path)!r}, sys.argv[-1]), 'w').write(' '.join(sys.argv[1:]))"
    assert program(script) == 0
    lines = [(tmp_path / f"--host={host}").read_text().split() for host in range(2)]
    assert lines[0][:-1] == lines[1][:-1]
    assert lines[0][0] == "--workdir=a"
    assert lines[0][1].startswith("--coordinator=localhost:")
    assert lines[0][2:] == ["--hosts=2", "--host=0"]


def test_one_that_fails_ends_the_others(program, monkeypatch):
    monkeypatch.setattr(hosts, "_GRACE_SECONDS", 0.2)
    assert program("sys.exit(3) if sys.argv[-1] == '--host=1' else time.sleep(60)") == 3
    assert program("os.kill(os.getpid(), 9) if sys.argv[-1] == '--host=1' else time.sleep(60)") == 137


def test_a_signal_reaches_every_host_and_its_code_comes_back(program, tmp_path):
    script = f"""
    def leave(*_):
        open(os.path.join({str(tmp_path)!r}, sys.argv[-1]), "w").write("left")
        os._exit(143)
    signal.signal(signal.SIGTERM, leave)
    if sys.argv[-1] == "--host=1":
        while not os.path.exists(os.path.join({str(tmp_path)!r}, "ready")): time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGTERM)
    else:
        open(os.path.join({str(tmp_path)!r}, "ready"), "w").write("")
    time.sleep(60)
    """
    before = signal.getsignal(signal.SIGTERM)
    assert program(script) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert [(tmp_path / f"--host={host}").read_text() for host in range(2)] == ["left", "left"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_host_ends_the_other_and_nothing_saved_is_lost(people, tmp_path, lost):
    settings = [f"--workdir={tmp_path}", *flags(people), "--config.train.save_every=2"]
    two = [*settings, "--hosts=local:2", "--lost_host_seconds=3"]
    line, environment = command(*two, "--config.train.steps=3000")
    with subprocess.Popen(
        line, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for printed in process.stdout:
            if printed.startswith("step 9/"):
                hosts_of_it = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                os.kill(int(hosts_of_it[lost]), signal.SIGKILL)
                break
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    saved = load_weights(tmp_path).step
    assert saved >= 4
    if lost == 1:
        # On one host, of as many as there are now.
        done = run_quickly(*settings, f"--config.train.steps={saved + 2}")
        assert done.returncode == 0, done.stderr
        assert f"resuming after step {saved}" in done.stderr
        assert load_weights(tmp_path).step == saved + 2
