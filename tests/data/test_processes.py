"""A map over processes: in order, errors carried over, never waiting for a process that is gone."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from mcl_jax.data.prepare.processes import WorkerKilledError, map_in_processes


def nothing():
    pass


def double(x):
    return 2 * x


def fail_at_three(x):
    if x == 3:
        raise EOFError("three")
    return x


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


def mapped(function, arguments, **options):
    return list(
        map_in_processes(function, arguments, **{"workers": 2, "chunk": 2, "initialize": nothing} | options)
    )


def test_results_are_in_order():
    assert mapped(double, range(9)) == list(range(0, 18, 2))


def test_an_error_of_the_function_is_raised_with_its_traceback():
    with pytest.raises(EOFError, match="three") as error:
        mapped(fail_at_three, range(9))
    assert "in fail_at_three" in error.value.__notes__[0]
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_ends_the_map():
    with pytest.raises(WorkerKilledError):
        mapped(die, range(9))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("delay", [0, 0.02, 0.05])
def test_a_worker_killed_while_the_others_start(delay):
    def kill_the_first_worker():
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_worker, daemon=True)
    killer.start()
    with pytest.raises(WorkerKilledError):
        mapped(time.sleep, [0.01] * 1000, chunk=1)
    killer.join()
    assert not multiprocessing.active_children()
