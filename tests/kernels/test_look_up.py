"""Decoding by a table."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels import look_up


@pytest.mark.parametrize("size", [0, 1, 31, 33])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_decoding_is_a_look_up_in_the_table(size: int, width: int) -> None:
    table = np.arange(256).astype(f"u{width // 8}") * 3
    codes = (np.arange(size) * 7 % 256).astype(np.uint8)
    cells = np.empty(size, table.dtype)
    getattr(look_up, f"look_up_{width}")(codes, table, cells)
    assert cells.tolist() == [table[code] for code in codes]
