"""Every hostile file is refused in one line that names it, in bounded time and memory; nothing runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_corpus import CALLS, CANARY, corpus

MEBIBYTES, SECONDS = 400, 10


@pytest.mark.parametrize("kinds", ["pkl", "pt", "npz png json records"])
def test_every_file_is_refused_in_one_line(tmp_path, kinds):
    files = tmp_path / "files"
    files.mkdir()
    for kind, name, content in corpus():
        if kind in kinds.split():
            path = files / f"{name}.{kind}"
            if kind == "records":
                path.mkdir()
                path /= "records.json"
            path.write_bytes(content)
    command = [
        sys.executable,
        str(Path(__file__).with_name("read_files.py")),
        str(files),
        str(MEBIBYTES),
        str(SECONDS),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"ended by {done.returncode} at {done.stderr[-300:]}"
    outcomes = {line["path"]: line["outcome"] for line in map(json.loads, done.stdout.splitlines())}
    assert outcomes.keys() == {str(path) for path in files.iterdir()}
    odd = {
        path: text
        for path, text in outcomes.items()
        if not text.startswith((f"{path}: ", f"{path}/")) or "\n" in text
    }
    assert not odd
    assert not any(path.name == CANARY for path in tmp_path.rglob("*"))


def test_the_corpus_is_as_large_as_promised_and_its_canary_works(tmp_path):
    assert sum(1 for _ in corpus()) >= 190
    code = f"import pickle; pickle.loads({CALLS['reduce']!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / CANARY).exists()
