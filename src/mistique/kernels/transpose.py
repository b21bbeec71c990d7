"""Rows to columns and back: the way between a framework's batches and column chunks."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

# A square of so many rows and columns is turned at once: each cache line of float32 is read and written whole. Column
# by column took 11 ns a cell where rows lie a power of two apart, this takes 2.
_SIDE = 16


@kernel(
    *(
        f"void(Array({cell}, 2, 'C', readonly=True), int64, {cell}[:, ::1])"
        for cell in ("uint8", "uint16", "uint32", "uint64")
    )
)
def turn(cells: np.ndarray, first: int, out: np.ndarray) -> None:
    """Turn a matrix: ``out[c, first + r] = cells[r, c]``.

    Parameters
    ----------
    cells : ndarray of shape (n_rows, n_columns)
        As unsigned integers of their size.
    first : int
    out : ndarray of shape (n_columns, at least first + n_rows)
    """
    n_rows, n_columns = cells.shape
    square = np.empty(_SIDE * _SIDE, cells.dtype)
    for row in range(0, n_rows, _SIDE):
        for column in range(0, n_columns, _SIDE):
            if row + _SIDE <= n_rows and column + _SIDE <= n_columns:
                # Slices: with sums for indices LLVM tests their sign each time.
                for r in range(_SIDE):
                    source, line = cells[row + r, column:], square[r * _SIDE :]
                    for c in range(_SIDE):
                        line[c] = source[c]
                for c in range(_SIDE):
                    target, line = out[column + c, first + row :], square[c:]
                    for r in range(_SIDE):
                        target[r] = line[r * _SIDE]
            else:
                for r in range(row, min(row + _SIDE, n_rows)):
                    for c in range(column, min(column + _SIDE, n_columns)):
                        out[c, first + r] = cells[r, c]


@kernel(
    *(
        f"void(Array({cell}, 2, 'C', readonly=True), int64, {cell}[:, :, ::1])"
        for cell in ("uint8", "uint16", "uint32", "uint64")
    )
)
def turn_units(cells: np.ndarray, first: int, out: np.ndarray) -> None:
    """Columns of units to rows of positions: ``out[r, p, first + u] = cells[u * n_positions + p, r]``.

    Parameters
    ----------
    cells : ndarray of shape (n_units * n_positions, n_rows)
        As unsigned integers of their size.
    first : int
    out : ndarray of shape (n_rows, n_positions, at least first + n_units)

    Notes
    -----
    Of 16 units or more every cache line of float32 is written whole, straight from a chunk that lies in the cache.
    """
    n_rows, n_positions = out.shape[0], out.shape[1]
    n_units = cells.shape[0] // n_positions
    square = np.empty(_SIDE * _SIDE, cells.dtype)
    for row in range(0, n_rows, _SIDE):
        for position in range(n_positions):
            for unit in range(0, n_units, _SIDE):
                if row + _SIDE <= n_rows and unit + _SIDE <= n_units:
                    for u in range(_SIDE):
                        source, line = cells[(unit + u) * n_positions + position, row:], square[u * _SIDE :]
                        for r in range(_SIDE):
                            line[r] = source[r]
                    for r in range(_SIDE):
                        target, line = out[row + r, position, first + unit :], square[r:]
                        for u in range(_SIDE):
                            target[u] = line[u * _SIDE]
                else:
                    for r in range(row, min(row + _SIDE, n_rows)):
                        for u in range(unit, min(unit + _SIDE, n_units)):
                            out[r, position, first + u] = cells[u * n_positions + position, r]
