"""Values by their codes, by their numbers, and from their bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.kernels import look_up
from mistique.kernels.planes import join_bytes


@pytest.mark.parametrize("n_rows", [0, 1, 31, 33])
@pytest.mark.parametrize("n_tables", [1, 3])
@pytest.mark.parametrize("bits", ["u2", "u4", "u8"])
def test_decoding_is_a_look_up_in_the_table_of_the_unit(n_rows: int, n_tables: int, bits: str) -> None:
    tables = (np.arange(n_tables * 256).reshape(n_tables, 256) * 3).astype(bits)
    codes = (np.arange(2 * n_tables * n_rows) * 7 % 256).astype(np.uint8).reshape(2 * n_tables, n_rows)
    room = np.zeros((2 * n_tables, n_rows + 5), bits)  # beside what others wrote
    look_up.look_up(codes, tables, room[:, 3 : 3 + n_rows])
    of_column = np.repeat(tables, 2, axis=0)
    assert room[:, 3 : 3 + n_rows].tolist() == np.take_along_axis(of_column, codes.astype(int), axis=1).tolist()
    assert not room[:, :3].any()
    assert not room[:, 3 + n_rows :].any()


@pytest.mark.parametrize("bits", ["u1", "u2", "u4", "u8"])
def test_numbers_stand_for_values_and_one_that_has_none_is_noticed(bits: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, 31).astype(bits)
    numbers = rng.integers(0, 31, 500).astype(np.uint32)
    cells = np.empty(500, bits)
    assert look_up.look_up_numbers(numbers, values, cells)
    assert (cells == values[numbers]).all()
    numbers[7] = 31
    assert not look_up.look_up_numbers(numbers, values, cells)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(1, 8), st.integers(0, 2**64 - 1))
def test_numbers_are_joined_from_their_bytes(numbers: list[int], width: int, base: int) -> None:
    numbers = [number % 2 ** (8 * width) for number in numbers]
    lines = [number.to_bytes(width, "little") for number in numbers]
    planes = np.array([list(line) for line in lines], np.uint8).reshape(-1, width).T.copy()
    found = np.empty(len(numbers), np.uint64)
    join_bytes(planes, np.uint64(base), found)
    assert found.tolist() == [(number + base) % 2**64 for number in numbers]
