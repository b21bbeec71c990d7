"""Values of codes by a table of 256, for cells of each width."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel


def _look_up(codes: np.ndarray, table: np.ndarray, cells: np.ndarray) -> None:
    """Cells of codes: ``cells[i] = table[codes[i]]``, a table of 256 of the bits of each value."""
    for i in range(codes.size):
        cells[i] = table[codes[i]]


look_up_16 = kernel("void(Array(uint8, 1, 'C', readonly=True), uint16[::1], uint16[::1])")(_look_up)
look_up_32 = kernel("void(Array(uint8, 1, 'C', readonly=True), uint32[::1], uint32[::1])")(_look_up)
look_up_64 = kernel("void(Array(uint8, 1, 'C', readonly=True), uint64[::1], uint64[::1])")(_look_up)
