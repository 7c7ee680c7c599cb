import dataclasses
import json
import re

import numpy as np
import pytest
from browser import CHROMIUM, MISSING, Browser

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.page.confusions import worst_first
from mcl_jax.evaluation.page.embedding_map import principal_plane
from mcl_jax.evaluation.page.walk_frames import FRAMES, pack_walks
from mcl_jax.evaluation.protocols import get_protocol
from mcl_jax.evaluation.report import score
from mcl_jax.evaluation.roles import assign_roles

CONDITIONS = ["nm-01", "nm-05", "bg-01", "cl-01"]
EVIL = "</script><script>alert(1)</script>"


def people(names=("001", "002", "003"), views=("000", "090")) -> EmbeddingSet:
    """Each person at a point of its own, apart from the last one in a coat, who looks like the first."""
    labels = [(s, c, v) for s in names for c in CONDITIONS for v in views]
    place = {name: 10.0 * i for i, name in enumerate(names)}
    points = [
        [[place[names[0]] + 0.5 if (s, c) == (names[-1], "cl-01") else place[s], 0.01 * i]]
        for i, (s, c, _) in enumerate(labels)
    ]
    return EmbeddingSet(np.array(points, np.float32), *map(np.array, zip(*labels, strict=True)))


def walk(i: int) -> np.ndarray:
    clip = np.zeros((5, 64, 44), np.uint8)
    clip[:, 10:60, i % 20 : i % 20 + 9] = 255
    clip[1, 0, 0] = 200
    return clip


def page_of(folder, embeddings=None, silhouettes=walk):
    score(embeddings or people(), "casiab").write(folder, silhouettes)
    return folder / "report.html"


def data_of(page) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)[1])


def test_the_worst_confusion_comes_first():
    embeddings = people()
    protocol = get_protocol("casiab")
    roles = assign_roles(protocol, embeddings)
    x = embeddings.embeddings[:, 0]

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[a][:, None] - x[b], axis=-1)

    rows = worst_first(protocol, embeddings, roles, distances)
    assert [row.margin for row in rows] == sorted(row.margin for row in rows)
    worst = rows[:2]
    assert {embeddings.key(row.probe) for row in worst} == {"003-cl-01-000", "003-cl-01-090"}
    # Each person has one gallery walk of another view: those of 001 and 002 are nearer than that of 003.
    assert [row.rank for row in worst] == [3, 3]
    assert [embeddings.subjects[i] for i in worst[0].nearest] == ["001", "002", "003"]
    assert worst[0].group == "CL"
    assert all(row.rank == 1 and row.margin > 0 for row in rows[2:])
    assert len(rows) == 18


def test_the_plane_has_the_principal_components():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 3, 4)) * 0.01
    x[:, 1, 2] += np.linspace(-3, 3, 40)  # the first direction, and a smaller second one
    x[:, 0, 0] += np.where(np.arange(40) % 2, 1, -1)
    plane = principal_plane(x)
    assert np.abs(plane).max() == pytest.approx(1)
    assert np.abs(np.corrcoef(plane[:, 0], x[:, 1, 2])[0, 1]) > 0.999
    assert np.abs(np.corrcoef(plane[:, 1], x[:, 0, 0])[0, 1]) > 0.99
    assert np.array_equal(plane, principal_plane(x))


def test_equal_walks_are_one_point():
    assert not principal_plane(np.ones((3, 2, 2))).any()


def test_packed_frames_are_every_second_one_and_short_walks_repeat():
    import base64
    import zlib

    packed = pack_walks([3, 4], walk)
    assert (packed.frames, packed.height, packed.width) == (FRAMES[0], 64, 44)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(packed.content)), np.uint8))
    clips = bits.reshape(2, FRAMES[0], 64, 44)
    expected = (walk(4)[np.array([0, 2, 4] * 4)] >= 128).astype(np.uint8)
    assert np.array_equal(clips[1], expected)


def test_noise_that_cannot_be_compressed_gets_fewer_frames(monkeypatch):
    monkeypatch.setattr("mcl_jax.evaluation.page.walk_frames.MAX_BYTES", 20_000)
    rng = np.random.default_rng(0)
    packed = pack_walks(range(10), lambda i: rng.integers(0, 256, (24, 64, 44), np.uint8))
    assert packed.frames == 4  # 10 · 4 · 352 bytes


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(DataError, match="report.html: frames of sequence 1 are"):
        pack_walks([0, 1], lambda i: np.zeros((3, 64, 44 + 20 * i), np.uint8))


def test_a_page_is_the_same_again_and_asks_for_nothing(tmp_path):
    first, second = page_of(tmp_path / "a"), page_of(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    addresses = re.findall(r'(?:src|href)="([^"]{1,5})', first.read_text())
    assert {address[0] if address[0] == "#" else address for address in addresses} == {"#", "data:"}


def test_titles_name_what_was_scored(tmp_path):
    protocol = dataclasses.replace(get_protocol("casiab"), data="Synthetic people")
    report = score(people(), protocol)
    report.write(tmp_path)
    assert report.table.startswith("Synthetic people, gallery of one view, identical view left out\n")
    text = (tmp_path / "report.html").read_text()
    assert "CASIA" not in text
    assert "<title>Synthetic people, gallery" in text


def test_without_silhouettes_the_page_says_so(tmp_path):
    page = page_of(tmp_path, silhouettes=None)
    assert "the silhouettes were not available" in page.read_text()
    assert data_of(page)["frames"] is None
    assert 'id="frames"' not in page.read_text()


def test_the_worst_confusions_get_pages_of_their_own(tmp_path):
    def explain(probe: int, nearest: int) -> bytes:
        if embeddings.views[probe] == "090":
            raise DataError(f"{EVIL} is too long")
        return f"{embeddings.key(probe)} {embeddings.key(nearest)}".encode()

    embeddings = people()
    report = score(embeddings, "casiab")
    report.write(tmp_path, walk, explain=explain, explained=5)
    made = sorted(path.name for path in tmp_path.glob("confusion-*.html"))
    assert len(made) == 1  # of two confusions
    probe, nearest = (tmp_path / made[0]).read_text().split()
    assert (probe, nearest[:3]) == ("003-cl-01-000", "001")
    text = (tmp_path / "report.html").read_text()
    assert f'<li>{probe} was nearest to {nearest}: <a href="{made[0]}">' in text
    assert text.count("is too long") == 1
    assert EVIL not in text
    report.write(tmp_path, walk)
    assert not list(tmp_path.glob("confusion-*.html"))
    assert "why these two?" not in (tmp_path / "report.html").read_text()


def test_a_subject_may_have_any_name(tmp_path):
    page = page_of(tmp_path, people(names=("001", "002", EVIL)))
    assert EVIL not in page.read_text()
    assert any(walk[0] == EVIL for walk in data_of(page)["walks"])


def test_a_person_clicks_through_the_page(tmp_path):
    if CHROMIUM is None:
        pytest.skip(MISSING)
    page = page_of(tmp_path, people(names=("001", "002", EVIL)))
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        browser.until("document.body?.dataset.ready === 'yes'")
        count = "document.getElementById('count').textContent"
        first = "document.querySelector('.probe h4').textContent"
        assert browser.run(count) == "1–8 of 18 probes, 2 wrong"
        assert browser.run(first).endswith("cl-01 000 (CL): wrong, its own walk is at rank 3")
        # Its silhouette is drawn: rows 10 to 59 of some columns are white, as in `walk`.
        white = (
            "(() => { const c = document.querySelector('canvas'); const d = c.getContext('2d')"
            ".getImageData(0, 0, 44, 64).data; let n = 0;"
            " for (let i = 0; i < d.length; i += 4) n += d[i] > 0; return n; })()"
        )
        assert browser.run(white) == 50 * 9

        def choose(name: str, value: str) -> None:
            box = f"document.getElementById('{name}')"
            browser.run(f"{box}.value = {json.dumps(value)}; {box}.dispatchEvent(new Event('change'))")

        browser.run("document.getElementById('next').click()")
        assert browser.run(count) == "9–16 of 18 probes, 2 wrong"
        choose("outcome", "wrong")
        assert browser.run(count) == "1–2 of 2 probes, 2 wrong"
        choose("view", "090")
        assert browser.run(count) == "1–1 of 1 probes, 1 wrong"
        browser.run("document.getElementById('reset').focus()")
        browser.press("Enter")  # by keyboard
        assert browser.run(count) == "1–8 of 18 probes, 2 wrong"
        choose("subject", EVIL)
        assert browser.run(count) == "1–6 of 6 probes, 2 wrong"
        assert browser.run("document.querySelectorAll('circle.chosen').length") == 8
        circle = "[...document.querySelectorAll('circle')].find(c => c.textContent.startsWith('002'))"
        browser.run(f"{circle}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
        assert browser.run("document.getElementById('subject').value") == "002"
        browser.run("document.getElementById('play').click()")
        assert browser.run("document.getElementById('play').textContent") == "Play"
        unnamed = "[...document.querySelectorAll('select')].filter(s => !s.labels.length).length"
        assert browser.run(unnamed) == 0
        assert browser.run("[...document.images].every(i => i.alt && i.naturalWidth > 0)")
        assert not browser.errors
        assert all(address.startswith(("file:", "data:")) for address in browser.requests)
        assert browser.requests
