"""Values are numbered in the order in which they first occur."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mistique.kernels.occurrence import number_values


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), min_size=1, max_size=200))
def test_numbers_are_those_of_a_dictionary(values: list[int]) -> None:
    numbers, distinct = np.empty(len(values), np.uint32), np.empty(len(values), np.uint64)
    table = np.full(512, -1)
    n_values = number_values(np.array(values, np.uint64), table, np.uint64(64 - 9), numbers, distinct)
    order = list(dict.fromkeys(values))
    assert distinct[:n_values].tolist() == order
    assert numbers.tolist() == [order.index(value) for value in values]


def test_more_distinct_values_than_there_is_room_for_are_said() -> None:
    values = np.arange(10, dtype=np.uint64)
    table = np.full(64, -1)
    assert number_values(values, table, np.uint64(58), np.empty(10, np.uint32), np.empty(9, np.uint64)) == -1
