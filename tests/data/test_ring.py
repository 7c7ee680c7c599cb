"""Results pass through shared memory unchanged and in order, and wait for free slots."""

import errno
import functools
import os
import pickle
import shutil
import threading

import numpy as np
import pytest

from mcl_jax.data.feed import ring
from mcl_jax.errors import UserError


@pytest.fixture
def slots():
    made = ring.Ring(2, 110)
    yield made
    made.free()


def result(value: int, empty=np.empty) -> dict[str, np.ndarray]:
    arrays = {"a": empty((5, 10), np.uint8), "b": empty((12,), np.int32)}
    for array in arrays.values():
        array.fill(value)
    return arrays


def making(value: int):
    return functools.partial(result, value)


def assert_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_results_pass_through_the_ring_unchanged(slots):
    sender = pickle.loads(pickle.dumps(slots))
    for first in range(0, 6, 2):
        parcels = [pickle.loads(pickle.dumps(sender.put(n, making(n)))) for n in (first, first + 1)]
        for n, parcel in zip((first, first + 1), parcels, strict=True):
            assert_equal(slots.take(parcel), result(n))


def test_a_taken_result_is_a_copy(slots):
    found = slots.take(slots.put(0, making(1)))
    slots.put(2, making(2))
    assert_equal(found, result(1))


def test_a_full_slot_is_waited_for(slots):
    first = slots.put(0, making(0))
    sent = []
    thread = threading.Thread(target=lambda: sent.append(slots.put(2, making(2))))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert not sent
    assert_equal(slots.take(first), result(0))
    thread.join(10)
    assert_equal(slots.take(sent[0]), result(2))


def test_waiting_ends_when_the_ring_is_closed(slots):
    slots.put(0, making(0))
    failures = []

    def put() -> None:
        try:
            slots.put(2, making(2))
        except ring.RingClosedError as error:
            failures.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    slots.close()
    thread.join(10)
    assert len(failures) == 1


def test_a_result_that_does_not_fit_is_refused(slots):
    with pytest.raises(ValueError, match="result 0 does not fit"):
        slots.put(0, lambda empty: {"a": empty((2000,), np.uint8)})


def shared_memory_left(monkeypatch, megabytes: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": megabytes << 20}))


@pytest.mark.parametrize(("megabytes", "expected"), [(170, 8), (65, 3), (25, 2)])
def test_half_of_the_shared_memory_is_left_to_others(monkeypatch, megabytes, expected):
    shared_memory_left(monkeypatch, megabytes)
    scarce = ring.Ring(16, 10 << 20)
    try:
        for n in range(expected):
            scarce.put(n, making(n))
        scarce.close()
        with pytest.raises(ring.RingClosedError):
            scarce.put(expected, making(expected))
    finally:
        scarce.free()


def test_too_little_shared_memory(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    shared_memory_left(monkeypatch, 12)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(UserError, match=r"data\.workers.* 20\.0 MB .*has 12\.0 MB left.*--shm-size"):
        ring.Ring(16, 10 << 20)
