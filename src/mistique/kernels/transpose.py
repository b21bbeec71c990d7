"""Columns out of rows, and back: the two ways between a framework's batches and column chunks."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_CELLS = ("uint8", "uint16", "uint32", "uint64")
# Rows handled together: one cache line of each column is then filled at once.
_ROWS = 16


@kernel(
    *(
        f"void(Array({t}, 2, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64, {t}[:,::1])"
        for t in _CELLS
    )
)
def gather_columns(rows: np.ndarray, columns: np.ndarray, first_row: int, out: np.ndarray) -> None:
    """Copy some columns of rows, each to a row of `out`.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, width)
        Cells as unsigned integers of their size.
    columns : ndarray of shape (n_columns,), int64
    first_row : int
        Where in a row of `out` the first one goes.
    out : ndarray of shape (n_columns, at least first_row + n_rows)
    """
    n_rows = rows.shape[0]
    for start in range(0, n_rows, _ROWS):
        stop = min(start + _ROWS, n_rows)
        for c in range(columns.size):
            column = columns[c]
            for r in range(start, stop):
                out[c, first_row + r] = rows[r, column]


@kernel(*(f"void(Array({t}, 2, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), {t}[:,:])" for t in _CELLS))
def scatter_columns(chunk: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """The inverse of `gather_columns`: row `c` of `chunk` becomes column ``columns[c]`` of `out`.

    Parameters
    ----------
    chunk : ndarray of shape (n_columns, n_rows)
        Cells as unsigned integers of their size.
    columns : ndarray of shape (n_columns,), int64
    out : ndarray of shape (n_rows, width)
    """
    n_rows = chunk.shape[1]
    for start in range(0, n_rows, _ROWS):
        stop = min(start + _ROWS, n_rows)
        for c in range(columns.size):
            column = columns[c]
            for r in range(start, stop):
                out[r, column] = chunk[c, r]
