"""Pickles: arrays of every kind are read, everything else is refused and nothing is executed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores import array_pickle
from mcl_jax.data.stores.silhouette_pickle import read_silhouettes
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import DataError

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 64, 64), np.uint8)


def read(path: Path) -> np.ndarray:
    return PklSource().read(SequenceRef("001", "nm-01", "000", str(path)))


def write(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [FRAMES, np.asfortranarray(FRAMES), FRAMES[:, :, 10:54], FRAMES[::2]],
    ids=["C", "F", "cut", "strided"],
)
def test_arrays_of_any_layout_and_protocol_are_read(tmp_path, array, protocol):
    loaded = read(write(tmp_path / "a.pkl", array, protocol))
    assert loaded.dtype == np.uint8
    assert np.array_equal(loaded, array)


def test_arrays_of_older_numpy_are_read(tmp_path):
    path = write(tmp_path / "a.pkl", FRAMES, protocol=3)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert np.array_equal(read(path), FRAMES)


class Hostile:
    """Runs a command when unpickled the ordinary way."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_hostile_pickles_execute_nothing(tmp_path):
    marker = tmp_path / "executed"
    for value in (Hostile(marker), [FRAMES, Hostile(marker)], np.array([Hostile(marker)], object)):
        with pytest.raises(DataError, match=r"a\.pkl: .*system, which is not part of a NumPy array; refused"):
            read(write(tmp_path / "a.pkl", value))
        assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds a list, not a NumPy array"),
        (FRAMES.tolist(), "holds a list, not a NumPy array"),
        ({"frames": FRAMES}, "holds a dict"),
        (FRAMES.astype(np.float32), "frames are float32; expected uint8"),
        (FRAMES > 0, "frames are bool; expected uint8"),
        (FRAMES[:, :32], r"shape \[5, 32, 64\]; expected \[frames, 64, 64 or 44\]"),
        (FRAMES[0], r"shape \[64, 64\]"),
        (FRAMES[:0], "the sequence is empty"),
        (np.array(["a"]), "not a pickled NumPy array of numbers"),
    ],
)
def test_other_content_is_named(tmp_path, value, message):
    with pytest.raises(DataError, match=rf"a\.pkl: .*{message}"):
        read(write(tmp_path / "a.pkl", value))


def test_missing_and_cut_off_files_are_named(tmp_path):
    with pytest.raises(DataError, match="a.pkl: cannot be read: No such file"):
        read(tmp_path / "a.pkl")
    path = write(tmp_path / "a.pkl", FRAMES)
    content = path.read_bytes()
    for length in (0, 1, 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="truncated or damaged pickle"):
            read(path)


def test_a_shape_larger_than_the_content_is_refused(tmp_path):
    path = write(tmp_path / "a.pkl", FRAMES)
    content = path.read_bytes().replace(b"K\x05K@K@", b"K\xffK@K@")
    path.write_bytes(content)
    with pytest.raises(DataError, match="size and content disagree"):
        read(path)


@given(st.data())
def test_damaged_bytes_are_read_or_refused_but_never_crash(tmp_path_factory, data):
    content = bytearray(pickle.dumps(FRAMES[:1]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(bytes(content))
    message = "damaged.pkl"
    try:
        assert read(path).dtype == np.uint8
    except DataError as error:
        message = str(error)
    assert "damaged.pkl" in message


def long_way(content: bytes) -> np.ndarray:
    """Reads an array by the machine, without the short way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_pickle, "read_silhouettes", lambda _: None)
        return array_pickle.read_array(content)


# With frames that end before the pixels, frames around them, and, in protocol 3, none.
@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("frames", [FRAMES[:1], FRAMES, np.zeros((300, 64, 44), np.uint8)], ids=len)
def test_the_fast_reader_is_used_and_agrees(frames, protocol):
    content = pickle.dumps(frames, protocol)
    assert np.array_equal(read_silhouettes(content), frames)
    assert np.array_equal(long_way(content), frames)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_fast_reader_is_used_for_older_numpy(protocol):
    content = pickle.dumps(FRAMES[:1], protocol).replace(b"numpy._core", b"numpy.core")
    if protocol > 3:  # the name has a letter less, and so has the frame around it
        name = content.index(b"numpy.core")
        size = int.from_bytes(content[3:11], "little") - 1
        content = content[:3] + size.to_bytes(8, "little") + content[11:]
        content = content[: name - 1] + bytes([content[name - 1] - 1]) + content[name:]
    assert np.array_equal(read_silhouettes(content), FRAMES[:1])
    assert np.array_equal(long_way(content), FRAMES[:1])


@settings(max_examples=300)
@given(st.data())
def test_the_fast_reader_treats_damaged_files_alike(data):
    content = bytearray(pickle.dumps(FRAMES[:1, :4, :4], data.draw(st.integers(3, 5))))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    short = read_silhouettes(bytes(content))
    if short is not None:
        assert np.array_equal(short, long_way(bytes(content)))


def test_a_frame_or_buffer_longer_than_the_file_is_refused(tmp_path):
    # Both were found by scripts/fuzz_readers.py.
    content = pickle.dumps(FRAMES, 5)
    path = tmp_path / "a.pkl"
    for place in (3, content.index(b"\x96") + 1):
        path.write_bytes(content[: place + 7] + b"\xff" + content[place + 8 :])
        with pytest.raises(DataError, match="truncated or damaged"):
            read(path)


def test_protocols_of_python_2_are_read(tmp_path):
    for protocol in (0, 1):
        assert np.array_equal(read(write(tmp_path / "a.pkl", FRAMES, protocol)), FRAMES)


def test_other_byte_orders_are_read():
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    loaded = array_pickle.read_array(pickle.dumps(array, 4))
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)


def test_a_file_of_too_many_bytes_or_no_file_is_refused_unread(tmp_path):
    with (tmp_path / "a.pkl").open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(DataError, match=r"a\.pkl: cannot be read: it has 10737418240 bytes"):
        read(tmp_path / "a.pkl")
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(DataError, match=r"pipe\.pkl: cannot be read: it is not a regular file"):
        read(tmp_path / "pipe.pkl")
    with pytest.raises(DataError, match="2 pkl files"):
        read(tmp_path)


def person(frames: int = 4, width: int = 64) -> np.ndarray:
    """A head, a body and two legs from the top row to the bottom one, uint8 [frames, 64, width]."""
    image = np.zeros((frames, 64, width), np.uint8)
    middle = width // 2
    image[:, :10, middle - 4 : middle + 4] = 255
    image[:, 10:40, middle - 8 : middle + 8] = 255
    image[:, 40:, middle - 8 : middle - 3] = image[:, 40:, middle + 2 : middle + 9] = 255
    return image


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (person() // 255, "the values are 0 and 1; expected 0 and 255: multiply them by 255"),
        (person() * 0, "all pixels are 0"),
        (person() // 4, "the brightest pixel is 63; expected a person of 255"),
        (person() * 0 + 255, "all pixels are white"),
        (255 - person(), "inverted; expected a person of 255 on a background of 0"),
        (255 - person(width=44), "inverted"),
        (person().swapaxes(1, 2), "transposed; swap the two axes"),
    ],
    ids=["0 and 1", "black", "dark", "white", "inverted", "inverted and cut", "transposed"],
)
def test_frames_that_are_no_silhouettes_are_refused(tmp_path, value, message):
    with pytest.raises(DataError, match=rf"a\.pkl: .*{message}"):
        read(write(tmp_path / "a.pkl", np.ascontiguousarray(value)))


def test_a_sequence_with_odd_frames_is_read(tmp_path):
    frames = person(20)
    frames[10] = 0  # the one that is looked at first
    assert np.array_equal(read(write(tmp_path / "a.pkl", frames)), frames)
    assert len(read(write(tmp_path / "b.pkl", person(width=44)))) == 4
