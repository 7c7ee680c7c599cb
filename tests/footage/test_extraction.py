import shutil

import cv2
import numpy as np
import pytest

from mcl_jax.data.prepare.silhouette import normalize, read_png
from mcl_jax.errors import DataError, UserError
from mcl_jax.footage import FootageOptions, Track, extract, sources, stream
from mcl_jax.footage.extraction import find_walks
from mcl_jax.footage.video import VideoFile
from mcl_jax.walkers import Passer, film

MASKS = FootageOptions(segmenter="masks")


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("segmenter", ["mog2", pytest.param("knn", marks=pytest.mark.slow)])
def test_two_who_cross_are_found_and_kept_apart(crossing, segmenter):
    path, truth = crossing
    scores: dict[str, list[tuple[int, float]]] = {}

    def watch(scene):
        for name, sighting in scene.people:
            if sighting.state == "sound":
                box, mask = sighting.box, np.zeros(scene.picture.shape[:2], bool)
                rows, columns = (int(box.top), int(box.foot)), (int(box.left), int(box.right))
                mask[slice(*rows), slice(*columns)] = sighting.blob.mask > 0
                each = [iou(mask, one) for one in truth[scene.frame]]
                scores.setdefault(name, []).append((int(np.argmax(each)), max(each)))

    walks = list(find_walks(path, FootageOptions(segmenter=segmenter), watch=watch))
    assert sorted(walk.name for walk in walks) == ["person-001", "person-002"]
    assert all(isinstance(walk, Track) for walk in walks)
    whole = {"person-001": 1, "person-002": 0}  # the farther one is in the picture first
    for walk in walks:
        assert {who for who, _ in scores[walk.name]} == {whole[walk.name]}
        assert np.mean([score for _, score in scores[walk.name]]) >= 0.95
        assert min(score for _, score in scores[walk.name]) >= 0.9
        # Unbroken: seen on both sides of where they cross, and lost only while they are one piece.
        middles = [np.flatnonzero(truth[f][whole[walk.name]].any(0)).mean() for f in walk.frames[[0, -1]]]
        assert min(middles) < 120
        assert max(middles) > 360
        assert walk.quality.broken < 0.25
        assert walk.silhouettes.shape == (walk.quality.frames, 64, 64)
        assert walk.silhouettes.dtype == np.uint8
        assert walk.first_frame == walk.frames[0]


def test_the_same_footage_gives_the_same_bytes(alone):
    options = FootageOptions(segmenter="knn")
    first, second = extract(alone, options), extract(str(alone), options)
    assert first.tracks[0].silhouettes.tobytes() == second.tracks[0].silhouettes.tobytes()
    assert first.rejected == second.rejected == ()
    assert first.warning is None


def test_ready_masks_become_what_preparation_makes_of_them(masks):
    (track,) = extract(masks).tracks
    paths = sorted(masks.iterdir())
    for silhouette, frame in zip(track.silhouettes, track.frames, strict=True):
        assert silhouette.tobytes() == normalize(read_png(paths[frame])).tobytes()
    assert len(track.silhouettes) > 40


def test_a_video_of_masks_is_like_the_folder(masks, tmp_path):
    with VideoFile(tmp_path / "masks.avi", 25) as video:
        for path in sorted(masks.iterdir()):
            video.add(cv2.cvtColor(read_png(path), cv2.COLOR_GRAY2BGR))
    (track,), (other,) = extract(tmp_path / "masks.avi", MASKS).tracks, extract(masks).tracks
    assert abs(len(track.frames) - len(other.frames)) <= 2
    assert iou(track.silhouettes[10] > 127, other.silhouettes[10] > 127) > 0.9


def test_a_stream_gives_windows_and_then_the_rest(masks):
    whole = extract(masks).tracks[0]
    options = FootageOptions(min_frames=1)
    windows = list(stream(masks, options, window=15))
    assert {window.name for window in windows} == {whole.name}
    assert [window.quality.frames for window in windows[:-1]] == [15] * (len(windows) - 1)
    assert np.concatenate([window.silhouettes for window in windows]).tobytes() == whole.silhouettes.tobytes()
    assert [window.first_frame for window in windows] == [int(f) for f in whole.frames[::15]]


def test_a_stream_does_not_wait_for_the_end(masks, monkeypatch):
    read = []
    monkeypatch.setattr(sources, "read_png", lambda path: read.append(path) or read_png(path))
    next(stream(masks, window=10))
    assert len(read) < len(list(masks.iterdir())) / 2


class Camera:
    """Gives the frames of a video, and then nothing: it is gone."""

    def __init__(self, path, works=True):
        self._capture, self._works = cv2.VideoCapture(str(path)), works

    def isOpened(self):
        return self._works

    def get(self, what):
        return self._capture.get(what)

    def read(self):
        return self._capture.read()

    def release(self):
        self._capture.release()


def test_a_disconnected_camera_loses_no_walks(alone, monkeypatch):
    real = cv2.VideoCapture

    def fake(place, *rest):
        return Camera(alone) if place == 0 else real(place, *rest)

    monkeypatch.setattr(sources.cv2, "VideoCapture", fake)
    found = []
    with pytest.raises(DataError, match=r"camera 0: is gone after \d+ frames"):
        found.extend(stream(0, FootageOptions(warm_up=12), window=20))
    assert [track.quality.frames for track in found[:1]] == [20]
    with pytest.raises(DataError, match="give max_frames"):
        extract(0)
    assert extract(0, FootageOptions(warm_up=12, max_frames=90)).frames == 90


def test_a_camera_that_is_not_there(monkeypatch, alone):
    broken = Camera(alone, works=False)
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *_: broken)
    with pytest.raises(DataError, match=r"camera 3: cannot be opened; is it plugged in"):
        extract("3", FootageOptions(max_frames=5))


def test_footage_that_cannot_be_used(tmp_path, masks, alone):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"broken\.mp4: cannot be opened as a video"):
        extract(broken)
    with pytest.raises(DataError, match=r"nowhere\.mp4: no such video or folder"):
        extract(tmp_path / "nowhere.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no PNG files"):
        extract(tmp_path / "empty")
    with pytest.raises(DataError, match="a folder holds finished masks; do not give the segmenter 'knn'"):
        extract(masks, FootageOptions(segmenter="knn"))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(alone.read_bytes()[: alone.stat().st_size // 2])
    options = FootageOptions(min_frames=1, max_border_cut=1.0)
    assert "cut.avi: ends after" in (extract(cut, options).warning or "")


def test_masks_that_cannot_be_used(tmp_path, masks):
    damaged = tmp_path / "damaged"
    shutil.copytree(masks, damaged)
    (damaged / "0010.png").write_bytes((damaged / "0010.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"0010\.png: the PNG is damaged or cut off"):
        extract(damaged)
    cv2.imwrite(str(damaged / "0010.png"), np.zeros((50, 60), np.uint8))
    with pytest.raises(DataError, match="frame 10 has 60×50 pixels, those before it 240×136"):
        extract(damaged)


def test_footage_without_a_walk(tmp_path, masks):
    rng = np.random.default_rng(0)
    with VideoFile(tmp_path / "empty.mp4", 25) as video:
        for _ in range(30):
            video.add(rng.integers(110, 118, (120, 160, 3), np.uint8))
    with pytest.raises(DataError, match="nobody moves in its 30 frames"):
        extract(tmp_path / "empty.mp4")
    with pytest.raises(DataError, match=r"person-001: too short to judge: \d+ silhouettes; at least 500"):
        extract(masks, FootageOptions(min_frames=500))
    still = tmp_path / "still"
    still.mkdir()
    for number in range(40):
        shutil.copy(masks / "0040.png", still / f"{number:03d}.png")
    with pytest.raises(DataError, match="stands still"):
        extract(still)


def test_options_that_cannot_work():
    with pytest.raises(DataError, match="no 'u2'; there are auto, mog2"):
        FootageOptions(segmenter="u2")
    with pytest.raises(DataError, match="'network' needs a network file"):
        FootageOptions(segmenter="network")
    with pytest.raises(DataError, match=r"max_broken: is 2; must be between 0 and 1"):
        FootageOptions(max_broken=2)
    with pytest.raises(DataError, match="window: is 0"):
        next(stream("x", window=0))


def test_a_film_is_a_real_video(alone, tmp_path):
    capture = cv2.VideoCapture(str(alone))
    frames = sum(1 for _ in iter(lambda: capture.read()[0], False))
    assert frames == capture.get(cv2.CAP_PROP_FRAME_COUNT) > 60
    assert capture.get(cv2.CAP_PROP_FPS) == 25
    with pytest.raises(UserError, match=r"x\.mov: a video's name ends in \.mp4 or \.avi"):
        film(tmp_path / "x.mov", [Passer(0)])
    with pytest.raises(DataError, match="height 2 must be"):
        Passer(0, height=2)
