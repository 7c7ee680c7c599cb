import sys

import pytest

from mcl_jax.utils import progress_bar
from mcl_jax.utils.progress_bar import ProgressBar


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so; no terminal."""
    now = [100.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    return now


def test_without_a_terminal_a_line_comes_every_ten_seconds(clock, capsys):
    with ProgressBar("embedding", "seq", 100, 20) as shown:
        for _ in range(4):
            clock[0] += 4
            shown.update(8)
    lines = capsys.readouterr().err.splitlines()
    # After 12 s 24 were added; the fourth update comes 4 s later.
    assert len(lines) == 1
    assert lines[0].startswith("embedding: 44 of 100, 2 seq/s, about 28 s left, ")
    assert lines[0].endswith(" GB of memory at most")


def test_no_line_where_another_has_just_told_it(clock, capsys):
    with ProgressBar("training", "step", 10) as shown:
        clock[0] += 9
        shown.say("step 1")
        clock[0] += 9
        shown.update()
    with ProgressBar("training", "step", 10, show=False) as hidden:
        clock[0] += 60
        hidden.update()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("step 1\n", "")


def test_in_a_terminal_a_bar_is_drawn(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar("embedding", "seq", 2) as shown:
        shown.update(2)
    assert "embedding: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [False, True])
def test_time_left_out_changes_neither_rate_nor_time_left(clock, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with ProgressBar("training", "step", 100) as shown:
        clock[0] += 60
        shown.leave_out(60)
        for _ in range(3):
            clock[0] += 5
            shown.update(5)
    if not terminal:
        assert "1 step/s, about 95 s left" in capsys.readouterr().err
