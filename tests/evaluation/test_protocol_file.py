import json

import numpy as np
import pytest

import mcl_jax
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.protocol_file import read_protocol


def write(path, **content):
    path.write_text(json.dumps(content))
    return path


def test_a_protocol_of_ones_own_is_scored_by(tmp_path):
    path = write(
        tmp_path / "nights.json",
        title="Our hall",
        gallery=["day"],
        probes={"night": ["night"], "rain": ["rain"]},
        figures=["Rank-1", "mAP"],
    )
    # Two people on a line: at night the second is nearer to the first's day.
    x = np.array([0, 10, 1, 4, 0.5, 9], np.float32).reshape(6, 1, 1)
    subjects, views = np.array(["1", "2"] * 3), np.full(6, "000")
    conditions = np.array(["day", "day", "night", "night", "rain", "rain"])
    report = mcl_jax.score(mcl_jax.EmbeddingSet(x, subjects, conditions, views), str(path))
    assert report.scores["night"]["Rank-1"] == 50
    assert report.scores["rain"] == {"Rank-1": 100, "mAP": 100}
    assert "Our hall" in report.table
    assert report.metrics["protocol"] == "nights"


def test_null_is_the_rest_and_the_probe_set(tmp_path):
    protocol = read_protocol(write(tmp_path / "a.json", gallery=None, probes={"all": None}))
    assert (protocol.gallery, protocol.probes, protocol.data) == (None, {"all": None}, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"probes": {"a": ["x"]}}, "gallery: is missing"),
        ({"gallery": "x", "probes": {"a": ["x"]}}, "gallery: is 'x'; expected a list of names"),
        ({"gallery": ["x"], "probes": ["y"]}, "probes: must be an object"),
        ({"gallery": ["x"], "probes": {"a": [1]}}, r"probes\.a: is \[1\]"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "rank": 1}, "no key 'rank'; there are title, gallery"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "figures": ["Rank-0"]}, "figures: no 'Rank-0'"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "blocks": "no"}, "blocks: is 'no'; choose one of all, "),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "title": 1}, "title: must be a text"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "leave_out": "identical_view"}, "needs blocks view_pair"),
    ],
)
def test_mistakes_are_named_with_their_file(tmp_path, content, message):
    with pytest.raises(ConfigError, match=rf"eval\.protocol: .*p\.json: .*{message}"):
        read_protocol(write(tmp_path / "p.json", **content))


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_protocol(tmp_path / "none.json")
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(ConfigError, match=r"p\.json: (is no JSON|must be an object)"):
            read_protocol(tmp_path / "p.json")
