"""Work beside the model is bounded, keeps what it was given in order, and hands its errors to the model's thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import mistique
from mistique.ingest.workers import Workers
from mistique.store import Store
from tests.capturing import capturing


def test_who_brings_more_than_the_bound_waits() -> None:
    workers = Workers(100)
    may_end, brought = threading.Event(), threading.Event()

    def slow() -> int:
        may_end.wait(10)
        return 0

    def bring() -> None:
        workers.submit(lambda: 0, n_bytes=60)
        brought.set()

    workers.submit(slow, n_bytes=60)
    thread = threading.Thread(target=bring)
    thread.start()
    assert not brought.wait(0.2)
    may_end.set()
    thread.join(10)
    assert brought.is_set()
    workers.close()
    assert workers.nbytes == 0


def test_one_task_above_the_bound_is_let_through_alone() -> None:
    workers = Workers(10)
    workers.submit(lambda: 0, n_bytes=1000)
    workers.drain()
    workers.close()


def test_what_a_task_leaves_behind_counts_until_it_is_released() -> None:
    workers = Workers(1000)
    workers.submit(lambda: 30, n_bytes=600)
    workers.drain()
    assert (workers.nbytes, workers.is_full) == (30, False)
    workers.release(30)
    assert workers.nbytes == 0
    workers.close()


def test_the_first_error_of_a_task_is_raised_where_the_model_runs() -> None:
    workers = Workers(1000)

    def fail() -> int:
        raise OSError("the disk is full")

    workers.submit(fail, n_bytes=1)
    with pytest.raises(OSError, match="the disk is full"):
        workers.drain()
    with pytest.raises(OSError, match="the disk is full"):
        workers.submit(lambda: 0, n_bytes=1)
    workers.close()


def test_results_come_in_the_order_of_the_items() -> None:
    workers = Workers(1000)
    assert workers.map(lambda i: i * i, list(range(50))) == [i * i for i in range(50)]
    workers.close()


@pytest.mark.parametrize("codec", ["raw", "power"])
def test_a_capture_through_a_buffer_of_one_block_is_whole(store: Store, codec: str) -> None:
    small = mistique.open(store.uri, max_buffer_nbytes=1)
    values = np.random.default_rng(0).normal(size=(3000, 9, 16)).astype(np.float32)
    with capturing(small, codec=codec) as capture:
        for start in range(0, len(values), 100):
            capture.append("conv", values[start : start + 100])
    answer = mistique.get(small, "lab/model@1/train/conv")
    assert np.abs(answer.values - values).max() <= (answer.plan.max_abs_error or 0.0)


def test_rows_that_the_caller_changes_later_are_stored_as_they_were_given(store: Store) -> None:
    batch = np.zeros((1024, 100), np.float32)
    with capturing(store, codec="raw") as capture:
        for i in range(5):
            batch[:] = i
            capture.append("layer", batch)
    found = mistique.get(store, "lab/model@1/train/layer").values
    assert found[::1024, 0].tolist() == [0, 1, 2, 3, 4]
    assert (found == np.repeat(np.arange(5), 1024)[:, None]).all()
