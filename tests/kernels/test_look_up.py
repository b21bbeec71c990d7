"""Decoding by a table."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels import look_up


@pytest.mark.parametrize("size", [0, 1, 31, 33])
@pytest.mark.parametrize("n_units", [1, 3])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_decoding_is_a_look_up_in_the_table_of_the_unit(size: int, n_units: int, width: int) -> None:
    tables = (np.arange(n_units * 256).reshape(n_units, 256) * 3).astype(f"u{width // 8}")
    codes = (np.arange(n_units * size) * 7 % 256).astype(np.uint8).reshape(n_units, size)
    cells = np.empty((n_units, size), tables.dtype)
    getattr(look_up, f"look_up_{width}")(codes, tables, cells)
    assert cells.tolist() == [[table[code] for code in line] for table, line in zip(tables, codes, strict=True)]
