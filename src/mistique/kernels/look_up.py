"""Values by their numbers: of codes by a table of 256, of cells by the values of a column, for each width."""

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


def _look_up_numbers(numbers: np.ndarray, values: np.ndarray, cells: np.ndarray) -> bool:
    """``cells[i] = values[numbers[i]]``, of the bits of the values; whether there is a value for each number."""
    n_values, largest = np.uint64(values.size), np.uint64(0)
    for i in range(numbers.size):
        number = np.uint64(numbers[i])
        largest = max(largest, number)
        cells[i] = values[number if number < n_values else np.uint64(0)]
    return bool(largest < n_values)


look_up_numbers = kernel(
    *(
        f"boolean(Array(uint32, 1, 'C', readonly=True), Array({bits}, 1, 'C', readonly=True), {bits}[::1])"
        for bits in ("uint8", "uint16", "uint32", "uint64")
    )
)(_look_up_numbers)
