"""Names from strangers are printed as text and cannot control the terminal."""

import io
import logging as std_logging
import sys

import pytest
from absl import logging

from mcl_jax.cli.exit_code import exit_code
from mcl_jax.errors import DataError
from mcl_jax.utils.terminal import escaping_output, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 李 a\u00a0b\n\tc", "Zoë 李 a\u00a0b\n\tc"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x08c\x9b31m", r"a\rb\x08c\x9b31m"),
        ("\u202eabc\u200b", r"\u202eabc\u200b"),
        (b"caf\xe9".decode(errors="surrogateescape"), r"caf\udce9"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "Zoë"), ("ascii", r"Zo\xeb")])
def test_all_that_a_command_prints_is_escaped_and_fits_the_terminal(monkeypatch, encoding, shown):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    def work():
        print("Zoë \x1b[31m \udce9", flush=True)
        print("\r50 %\x1b", file=sys.stderr)
        raise DataError("no 'Zoë\x1b[2J'")

    assert exit_code(work) == 1
    assert (sys.stdout, sys.stderr) == (out, err)
    for stream in (out, err):
        stream.flush()
    assert out.buffer.getvalue().decode(encoding) == rf"{shown} \x1b[31m \udce9" + "\n"
    told = err.buffer.getvalue().decode(encoding, "replace")
    assert told.splitlines()[0] == ""
    assert r"50 %\x1b" in told
    assert r"error: no 'Zo" in told
    assert "\x1b" not in told


def test_what_is_logged_is_escaped():
    record = std_logging.LogRecord("absl", std_logging.WARNING, "file", 1, "%s gone", ("\x1b[2J",), None)
    with escaping_output():
        assert logging.get_absl_handler().filter(record)
    assert record.getMessage() == r"\x1b[2J gone"
