"""mcl-jax compare --explain."""

import pickle

import numpy as np
import pytest

from mcl_jax.cli.program import run


def walks(folder, frames=20):
    paths = []
    for name, column in (("a", 12), ("b", 16)):
        clip = np.zeros((frames, 64, 64), np.uint8)
        clip[:, 8:60, 10 + column : 30 + column] = 255
        clip[::3, 40:60, 5 + column : 10 + column] = 255
        paths.append(folder / f"{name}.pkl")
        paths[-1].write_bytes(pickle.dumps(clip))
    return paths


@pytest.mark.slow
def test_compare_writes_a_page_beside_its_answer(tmp_path, capsys):
    a, b = walks(tmp_path)
    page = tmp_path / "pages" / "why.html"
    assert run(["compare", "--explain", str(page), str(a), str(b)]) == 0
    told = capsys.readouterr().out.splitlines()
    text = page.read_text()
    assert told[0].removeprefix("distance ") in text
    assert told[1].split(":")[0] in text
    assert "do not prove" in text


@pytest.mark.parametrize(
    ("page", "frames", "told"),
    [
        ("a.pkl", 20, "--explain: a.pkl does not end in .html; give the name of a page to write"),
        ("folder.html", 20, "--explain: folder.html cannot be written; give a file in a folder of your own"),
        ("a.pkl/why.html", 20, "--explain: a.pkl/why.html cannot be written; give a file"),
        ("why.html", 301, "a.pkl: has 301 frames, too many to explain; give a piece of it of at most 300"),
    ],
)
def test_mistakes_are_one_line_and_cost_no_walk(page, frames, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    walks(tmp_path, frames)
    before = (tmp_path / "a.pkl").read_bytes()
    assert run(["compare", "--model=nowhere", "--explain", page, "a.pkl", "b.pkl"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")
    assert (tmp_path / "a.pkl").read_bytes() == before
