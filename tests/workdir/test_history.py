import json

from mcl_jax.workdir.history import STRETCHES, restarts


def test_restarts_are_those_that_still_count(tmp_path):
    assert restarts(tmp_path) == {}
    lines = [
        (0, "2026-01-01", []),
        (300, "2026-01-02", []),
        (400, "2026-01-03", []),
        (350, "2026-01-04", ["data: more"]),
    ]
    text = [
        json.dumps({"from_step": step, "started": f"{day}T10:00:00+00:00", "accepted_changes": changes})
        for step, day, changes in lines
    ]
    (tmp_path / STRETCHES).write_text("\n".join([*text, "damaged", "{}"]))
    assert restarts(tmp_path) == {
        0: "step 0 (2026-01-01)",
        300: "step 300 (2026-01-02)",
        350: "step 350 (2026-01-04): data: more",
    }


def test_the_page_of_a_run_says_whose_it_is_and_has_the_scores_of_the_test_at_its_end(toy_run):
    page = (toy_run / "training.html").read_text()
    assert '<p class="rules">gaitbase on Synthetic people</p>' in page
    assert "Rank-1 in %" in page
    assert "at step 3</title>" in page
