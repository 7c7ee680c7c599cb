"""The loops have no implicit transfers to and from devices, and a batch is transferred before its step."""

import contextlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.array import ArrayImpl
from toy_runs import toy_overrides

import mcl_jax
from mcl_jax import embed, train_loop
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.runtime.mesh import put_rows


def train(people, workdir, **more):
    every = {"train.steps": 4, "train.save_every": 2, "train.test_every": 2, "schedule.milestones": (30, 40)}
    return mcl_jax.train("walkers_mcl", workdir, overrides=toy_overrides(people) | every | more)


@pytest.fixture
def guarded_both_ways(monkeypatch):
    """Stands in for JAX's guard of the way back, which a CPU's arrays, being on the host, do not have.

    Returns the levels that were in force when an array was asked for by name.
    """
    state = threading.local()
    guard, get, value, asarray = jax.transfer_guard, jax.device_get, ArrayImpl._value, np.asarray
    levels = []

    @contextlib.contextmanager
    def noted_guard(level):
        before, state.level = getattr(state, "level", "allow"), level
        try:
            with guard(level):
                yield
        finally:
            state.level = before

    def by_name(tree):
        levels.append(getattr(state, "level", "allow"))
        with noted_guard("allow"):
            return get(tree)

    def refuse():
        if getattr(state, "level", "allow") == "disallow":
            raise RuntimeError("disallowed device-to-host transfer")

    def guarded_value(array):
        refuse()
        return value.fget(array)

    def guarded_asarray(array, *arguments, **more):
        if isinstance(array, jax.Array):
            refuse()
        return asarray(array, *arguments, **more)

    monkeypatch.setattr(jax, "transfer_guard", noted_guard)
    monkeypatch.setattr(jax, "device_get", by_name)
    monkeypatch.setattr(ArrayImpl, "_value", property(guarded_value))
    monkeypatch.setattr(np, "asarray", guarded_asarray)
    return levels


@pytest.mark.slow
def test_training_and_its_tests_have_no_implicit_transfer(people, tmp_path, guarded_both_ways):
    train(people, tmp_path)
    # Of each step its figures, when it is looked at and in its line; and embeddings, twice.
    assert guarded_both_ways.count("disallow") >= 10


def test_an_update_that_is_left_out_is_read_by_name(guarded_both_ways, caplog):
    figures = {"leave": False, "left_out": 1, "loss": np.inf, "gradient_norm": np.nan}
    monitor = train_loop.StepMonitor(allowed=9)
    monitor.add(7, {name: jnp.asarray(figure) for name, figure in figures.items()})
    with jax.transfer_guard("disallow"):
        monitor.settle()
    assert "at step 7: the update is left out" in caplog.text
    assert guarded_both_ways == ["disallow"]


@pytest.mark.parametrize("way", ["there", pytest.param("back", marks=pytest.mark.slow)])
def test_an_implicit_transfer_in_the_loop_is_an_error(way, people, tmp_path, monkeypatch, guarded_both_ways):
    number = jnp.ones(())
    transfer = {"there": lambda: number + np.ones(3), "back": lambda: float(number)}[way]
    monkeypatch.setattr(train_loop.StepMonitor, "add", lambda *_: transfer())
    with pytest.raises(RuntimeError, match="(?i)disallowed"):
        train(people, tmp_path)


@pytest.mark.slow
def test_a_batch_is_on_the_devices_before_the_step_ahead_of_it_begins(people, tmp_path, monkeypatch):
    """With rows put when their own step begins there would be none ahead."""
    order, compiled = [], train_loop.compile_guarded
    ahead = threading.Event()

    def put(batch, mesh):
        if "frames" in batch:
            order.append("put")
            if order.count("put") > order.count("step") + 1:
                ahead.set()
        return put_rows(batch, mesh)

    def compile_noted(*arguments):
        step = compiled(*arguments)

        def noted(*state_and_batch):
            assert ahead.wait(60)
            order.append("step")
            if order.count("put") < 4:  # the last step has none behind it
                ahead.clear()
            return step(*state_and_batch)

        return noted

    monkeypatch.setattr(train_loop, "put_rows", put)
    monkeypatch.setattr(train_loop, "compile_guarded", compile_noted)
    train(people, tmp_path, **{"train.test_every": 0})
    assert order.count("put") == order.count("step") == 4


def test_the_embedder_puts_a_batch_before_the_one_ahead_of_it_is_computed(
    toy_run, monkeypatch, guarded_both_ways
):
    order = []
    monkeypatch.setattr(embed, "put_rows", lambda *batch: order.append("put") or put_rows(*batch))
    gait = mcl_jax.load(toy_run)
    program = gait._embedder._embed
    gait._embedder._embed = lambda *arguments: order.append("run") or program(*arguments)
    gait._embedder._packer = embed.SequencePacker(4, 32, row_multiple=4)
    walks = [np.zeros((30, 64, 44), np.uint8) for _ in range(18)]
    for i, walk in enumerate(walks):  # bands of different widths
        walk[:, :, 10 : 12 + i] = 255
    embedded = gait.embed(walks)
    assert order[:3] == ["put", "put", "run"]
    assert order.count("put") == order.count("run") > 3
    assert "disallow" in guarded_both_ways  # so the way back was guarded, and asked for by name
    np.testing.assert_allclose(embedded[5], gait.embed(walks[5:6])[0], atol=1e-5)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_results_are_finished_in_the_thread_that_reads_ahead(workers):
    threads = []

    def then(result):
        threads.append(threading.current_thread().name)
        return int(result["number"][0]) * 10

    with prefetched(Numbers(), range(2, 6), workers, then=then) as results:
        assert list(results) == [20, 30, 40, 50]
    assert set(threads) == {"feed"}


def test_an_error_of_what_finishes_a_result_is_raised_where_it_is_asked_for():
    def then(result):
        raise MemoryError("no room on the device")

    with (
        prefetched(Numbers(), range(2), 0, then=then) as results,
        pytest.raises(MemoryError, match="no room"),
    ):
        next(results)


class Numbers:
    nbytes = 64

    def __call__(self, position, empty=np.empty, note=None):
        number = empty((1,), np.int64)
        number[:] = position
        return {"number": number}

    def position_name(self, position):
        return f"number {position}"

    def sequence_name(self, sequence):
        return f"sequence {sequence}"
