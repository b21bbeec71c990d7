"""Threads that share one Store lose nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import mistique
from mistique.store import Store
from tests.capturing import put


def test_captures_of_eight_threads_are_all_there_and_right(store: Store) -> None:
    def work(number: int) -> str:
        return put(store, np.full(100, float(number)), model=f"lab/{number % 3}")

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(work, range(24)))
    assert len(store.catalog.captures()) == 24
    assert len(set(keys)) == 24
    found = sorted(
        float(mistique.get(store, f"{capture.prefix}/stage").values[0]) for capture in store.catalog.captures()
    )
    assert found == [float(number) for number in range(24)]
