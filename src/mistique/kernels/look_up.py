"""Values of codes by a table of 256, for cells of each width."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel


def _look_up(codes: np.ndarray, tables: np.ndarray, cells: np.ndarray) -> None:
    """``cells[u, i] = tables[u, codes[u, i]]``: for each unit a table of 256, of the bits of the values."""
    for u in range(codes.shape[0]):
        table, line, out = tables[u], codes[u], cells[u]
        for i in range(line.size):
            out[i] = table[line[i]]


look_up_16 = kernel("void(Array(uint8, 2, 'C', readonly=True), uint16[:, ::1], uint16[:, ::1])")(_look_up)
look_up_32 = kernel("void(Array(uint8, 2, 'C', readonly=True), uint32[:, ::1], uint32[:, ::1])")(_look_up)
look_up_64 = kernel("void(Array(uint8, 2, 'C', readonly=True), uint64[:, ::1], uint64[:, ::1])")(_look_up)
