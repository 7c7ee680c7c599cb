import dataclasses
import json

import numpy as np
import pytest

import mcl_jax
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluation.protocol_file import read_protocol
from mcl_jax.evaluation.protocols import EVERY_OTHER, GALLERY_SET, PROBE_SET, THE_REST


def write(path, **content):
    path.write_text(json.dumps(content))
    return path


def test_a_protocol_from_a_json_file_is_used(tmp_path):
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


def test_null_means_the_other_sequences_or_the_probe_set(tmp_path):
    protocol = read_protocol(write(tmp_path / "a.json", gallery=None, probes={"all": None}))
    assert (protocol.gallery, protocol.probes, protocol.data) == (THE_REST, {"all": PROBE_SET}, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"probes": {"a": ["x"]}}, "gallery: is missing"),
        ({"gallery": "x", "probes": {"a": ["x"]}}, "gallery: is 'x'; expected a list of names"),
        ({"gallery": ["x"], "probes": ["y"]}, "probes: must be an object"),
        ({"gallery": ["x"], "probes": {"a" * 101: ["y"]}}, "group 'a{79}: a name has 1 to 100 characters"),
        ({"gallery": {"": ["x"]}, "probes": {"": ["y"]}}, "group '': a name has 1 to 100 characters"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "title": "a" * 101}, "title: must be a text of at most"),
        ({"gallery": ["x"], "probes": {"a": [1]}}, r"probes\.a: is \[1\]"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "rank": 1}, "no key 'rank'; there are title, gallery"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "figures": ["Rank-0"]}, "figures: no 'Rank-0'"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "blocks": "no"}, "blocks: is 'no'; choose one of all, "),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "title": 1}, "title: must be a text"),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "mean": 1}, "mean: must be true or false"),
        ({"gallery": {"b": ["x"]}, "probes": {"a": ["y"]}}, "gallery has the groups b, but probes has a"),
        (
            {"gallery": ["x"], "probes": {"a": "THE_REST"}},
            "THE_REST is for galleries: use EVERY_OTHER for probes",
        ),
        (
            {"gallery": None, "probes": {"a": "EVERY_OTHER"}},
            "a: probes and gallery are each defined as all sequences not",
        ),
        ({"gallery": ["x"], "probes": {"a": ["y"]}, "leave_out": "identical_view"}, "needs blocks view_pair"),
    ],
)
def test_mistakes_are_named_with_their_file(tmp_path, content, message):
    with pytest.raises(ConfigError, match=rf"eval\.protocol: .*p\.json: .*{message}"):
        read_protocol(write(tmp_path / "p.json", **content))


def test_files_that_are_not_protocols_are_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_protocol(tmp_path / "none.json")
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(ConfigError, match=r"p\.json: (is not a JSON file|must be an object)"):
            read_protocol(tmp_path / "p.json")


def _strangers(people: int, walks: int) -> mcl_jax.EmbeddingSet:
    """Embeddings that know nothing: chance is all that a score can be."""
    n = people * walks
    x = np.random.default_rng(0).standard_normal((n, 2, 8)).astype(np.float32)
    subjects = np.repeat([f"{i:03d}" for i in range(people)], walks)
    conditions = np.tile([f"walk-{i}" for i in range(walks)], people)
    return mcl_jax.EmbeddingSet(x, subjects, conditions, np.full(n, "000"))


def test_lists_of_the_partition_and_galleries_of_groups_by_their_names(tmp_path):
    protocol = read_protocol(
        write(
            tmp_path / "a.json",
            gallery="GALLERY_SET",
            probes={"all": "EVERY_OTHER"},
            view_ends="_",
            mean=False,
        )
    )
    assert (protocol.gallery, protocol.probes) == (GALLERY_SET, {"all": EVERY_OTHER})
    assert (protocol.view_ends, protocol.mean) == ("_", False)
    groups = {"UP": ["b*"], "DN": ["c"]}
    own = read_protocol(write(tmp_path / "b.json", gallery=groups, probes={"UP": ["a"], "DN": ["a"]}))
    assert own.gallery == {"UP": ("b*",), "DN": ("c",)}


def test_a_sequence_is_never_compared_with_itself(tmp_path):
    walks = ["walk-0", "walk-1", "walk-2"]
    path = write(tmp_path / "both.json", gallery=walks, probes={"all": walks})
    report = mcl_jax.score(_strangers(20, 3), str(path))
    assert report.scores["all"]["Rank-1"] < 30  # 100 where each meets itself; chance is 3
    assert report.verification is not None
    assert report.verification.genuine == {"all": 20 * 3 * 2}
    assert mcl_jax.score(_strangers(20, 3), "leave_one_out").scores["all"]["Rank-1"] == pytest.approx(
        report.scores["all"]["Rank-1"]
    )


def test_leave_one_out_skips_people_with_one_walk(tmp_path):
    pairs = _strangers(5, 2)
    subjects = np.array(["solo", "other", *pairs.subjects[2:]])  # two people of one walk
    together = dataclasses.replace(pairs, subjects=subjects)
    report = mcl_jax.score(together, "leave_one_out")
    assert report.metrics["skipped"] == {"all": 2}
    assert report.scores["all"]["Rank-1"] < 100
    path = write(tmp_path / "strict.json", gallery=["*"], probes={"all": ["*"]})
    with pytest.raises(DataError, match="subjects other, solo have probes but no gallery sequence besides"):
        mcl_jax.score(together, str(path))


def test_probes_of_the_gallery_are_not_reranked():
    from mcl_jax.evaluation.rerank import Rerank

    with pytest.raises(DataError, match="re-ranking is impossible if probes are in the gallery"):
        mcl_jax.score(_strangers(5, 2), "leave_one_out", rerank=Rerank())


def test_the_report_of_leave_one_out_is_written(tmp_path):
    mcl_jax.score(_strangers(6, 3), "leave_one_out").write(tmp_path)
    assert (tmp_path / "report.html").is_file()
