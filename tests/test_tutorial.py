"""The tutorial's own commands, in its order, in a smaller world: whom they name is chance there."""

import re
import shlex
from pathlib import Path

import pytest

from mcl_jax.cli import run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
SMALLER = {
    "--subjects 250 --test-subjects 50": "--subjects 7 --test-subjects 3",
    "--frames 25": "--frames 12",
    "--config walkers_side": "--config walkers_side --config.train.steps=2 --config.train.batch=(4,2) "
    "--config.data.workers=0 --config.schedule.milestones=(1,) --config.model.channels=(4,4,8)",
    "--far 0.001": "--far 0.1",
    "--people 0,20": "--people 0",
}


def commands() -> list[list[str]]:
    text = PAGE.read_text().replace("\\\n", " ")
    for large, small in SMALLER.items():
        assert large in text
        text = text.replace(large, small)
    return [shlex.split(line) for line in re.findall(r"^    mcl-jax (.*)$", text, re.MULTILINE)]


def test_its_commands_lead_from_nothing_to_an_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = commands()
    assert [line[0] for line in lines][-2:] == ["walkers", "identify"]
    assert len(lines) == 8
    for line in lines:
        capsys.readouterr()
        assert run(line) in (0, None), line
    answer = capsys.readouterr().out.splitlines()
    assert re.match(
        r"lobby\.mp4: person-001: (zero|one|unknown), distance \d\S*, (within|above) the threshold \S+ "
        r"for a false-accept rate of 0\.1 a comparison, 2 made",
        answer[0],
    )
    assert sorted(line.split()[-1] for line in answer[1:3]) == ["one", "zero"]
    assert float(answer[1].split()[1]) == pytest.approx(
        float(answer[0].split("distance ")[1].split(",")[0]), rel=0.05
    )  # rounded otherwise
