"""Exit of commands when resources run out, names are not UTF-8, or a pipe is closed."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcl_jax.cli.exit_code import READER_LEFT, exit_code
from mcl_jax.cli.overrides import parse_config
from mcl_jax.cli.program import run
from mcl_jax.errors import UserError
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.resource_limits import resource_limit


def fail(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "long"), "error: 'long': File name too long\n"),
        (
            OSError(errno.EMFILE, "x"),
            "error: this process may open no more files; raise the limit (ulimit -n)\n",
        ),
        (OSError(errno.ENOSPC, "x", "f"), "error: 'f': the disk is full; make room\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "error: Broken pipe\n"),  # not that of stdout
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9663676416 bytes."),
            "error: the device has not enough memory: 9 GiB more were asked for at once; lower train.batch "
            "(eval.rows or eval.slots in a test), or set train.remat=True; --describe says how much a step "
            "takes\n",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 21.50GiB."),
            "error: the device has not enough memory: 21.50 GiB more were asked for at once; lower train",
        ),
        (
            RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
            "error: the device has not enough memory; lower train.batch",
        ),
        (MemoryError(), "error: there is not enough memory; free some, or lower what takes it\n"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "error: a name or text is not valid"),
        (OverflowError("too large to convert"), "error: a number is too large: too large to convert\n"),
        (UserError("two\nlines"), "error: two lines\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exhausted_resources_are_one_line(error, line, capsys):
    assert exit_code(fail(error)) == 1
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("b")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        exit_code(fail(error))


def test_exhausted_resources_are_found_in_error_messages():
    tensorstore = "RESOURCE_EXHAUSTED: Error opening 'x': [OS error 24: EMFILE Too many open files]"
    assert resource_limit(ValueError(tensorstore)).remedy == "raise the limit (ulimit -n)"
    assert (
        "memory" in resource_limit(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")).what
    )
    assert "threads" in resource_limit(RuntimeError("can't start new thread")).what
    assert resource_limit(ValueError("another")) is None


def test_a_name_that_is_not_utf_8_is_refused_before_a_library_crashes_on_it(capsys):
    assert run(["walkers", "--sheet", os.fsdecode(b"\xff.png")]) == 1
    assert (
        capsys.readouterr().err == "error: '\\udcff.png': is not UTF-8; rename the file, or type it again\n"
    )


def test_a_folder_is_no_file_to_be_written():
    with pytest.raises(UserError, match="/: is a folder; give the name of a file"):
        write_atomically("/", b"")


def test_a_closed_pipe_is_no_error():
    """As in `mcl-jax config casiab_mcl | head -1`; the pipe is closed before anything is printed."""
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-c", "from mcl_jax.cli.program import main; main()", "config", "casiab_mcl"]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (READER_LEFT, b"")
    os.close(write)


def test_a_terminal_without_the_letters_gets_them_escaped(tmp_path):
    environment = os.environ | {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    script = (
        "import sys; from mcl_jax.cli.exit_code import exit_code; sys.exit(exit_code(lambda: print('1 ≤ 2')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=Path.cwd(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1 \\u2264 2\n", b"")


@pytest.mark.parametrize(
    "words", [["config"], ["score", "--out", "r", "--embeddings", "e.npz"], ["gallery", "list"]]
)
def test_a_very_long_argument_is_shortened_and_escaped(words, capsys):
    with contextlib.suppress(SystemExit):  # as argparse ends
        run([*words, "\u202e" + "a" * 5000])
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last
    assert len(last) < 2000
    assert "\u202e" not in last


def test_a_key_given_twice_has_its_last_value():
    keys = [
        "--config.schedule.milestones=(1,2)",
        "--config.train.batch=(2,2)",
        "--config.schedule.milestones=(3,4)",
    ]
    config = parse_config("casiab_mcl", keys)
    assert config.schedule.milestones == (3, 4)
    assert config.train.batch == (2, 2)
