"""Turning in squares gives what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.kernels.transpose import turn, turn_units


@given(n_rows=st.integers(1, 70), n_columns=st.integers(1, 70), first=st.integers(0, 5), rest=st.integers(0, 5))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_a_matrix_is_turned_into_its_place(dtype: type, n_rows: int, n_columns: int, first: int, rest: int) -> None:
    cells = np.random.default_rng(n_rows).integers(0, 256, (n_rows, n_columns)).astype(dtype)
    out = np.full((n_columns, first + n_rows + rest), 7, dtype)
    turn(cells, first, out)
    expected = np.full_like(out, 7)
    expected[:, first : first + n_rows] = cells.T
    assert (out == expected).all()


@given(
    n_rows=st.integers(1, 40),
    n_positions=st.integers(1, 5),
    n_units=st.integers(1, 40),
    first=st.integers(0, 5),
    rest=st.integers(0, 5),
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_units_are_turned_into_their_place(
    dtype: type, n_rows: int, n_positions: int, n_units: int, first: int, rest: int
) -> None:
    cells = np.random.default_rng(n_rows).integers(0, 256, (n_units * n_positions, n_rows)).astype(dtype)
    out = np.full((n_rows, n_positions, first + n_units + rest), 7, dtype)
    turn_units(cells, first, out)
    expected = np.full_like(out, 7)
    expected[:, :, first : first + n_units] = cells.reshape(n_units, n_positions, n_rows).transpose(2, 1, 0)
    assert (out == expected).all()
