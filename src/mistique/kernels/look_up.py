"""Values by their numbers: of codes by a table of 256, of cells by the values of a column, for each width."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel


@kernel(
    *(
        f"void(Array(uint8, 2, 'A', readonly=True), {bits}[:, ::1], Array({bits}, 2, 'A'))"
        for bits in ("uint16", "uint32", "uint64")
    )
)
def look_up(codes: np.ndarray, tables: np.ndarray, cells: np.ndarray) -> None:
    """Values of codes by tables, each of as many columns.

    Parameters
    ----------
    codes : ndarray of shape (n_columns, n_rows), uint8
    tables : ndarray of shape (n_tables, 256)
        Bits of the values. `n_columns` is a multiple of `n_tables`.
    cells : ndarray of shape (n_columns, n_rows)
        Receives the bits.
    """
    width = codes.shape[0] // tables.shape[0]
    for column in range(codes.shape[0]):
        table, line, out = tables[column // width], codes[column], cells[column]
        for i in range(line.size):
            out[i] = table[line[i]]


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
