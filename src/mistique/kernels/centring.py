"""Rows less their mean, and products of rows U-centred: what kernel alignment is reckoned from."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_SUMS = 16


@kernel(
    *(f"void(Array({cell}, 2, 'C', readonly=True), float64[::1], {cell}[:, ::1])" for cell in ("float32", "float64"))
)
def centre_columns(rows: np.ndarray, means: np.ndarray, out: np.ndarray) -> None:
    """Rows less the mean of each column: a column that does not vary is zero to the last bit.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns), float32 or float64
    means : ndarray of shape (n_columns,), float64
        Takes the means, less the first row: finite where all values are.
    out : ndarray of shape (n_rows, n_columns)

    Notes
    -----
    Two passes over rows that lie in the cache; NumPy took five, of fresh memory each.
    """
    first, n_columns = rows[0], rows.shape[1]
    means[:] = 0.0
    for i in range(rows.shape[0]):
        row = rows[i]
        for j in range(n_columns):
            means[j] += np.float64(row[j] - first[j])
    for j in range(n_columns):
        means[j] /= np.float64(rows.shape[0])
    for i in range(rows.shape[0]):
        row, line = rows[i], out[i]
        for j in range(n_columns):
            line[j] = np.float64(row[j] - first[j]) - means[j]


@kernel(
    *(
        f"void(Array({cell}, 2, 'C', readonly=True), int64, float64[::1], {cell}[:, ::1])"
        for cell in ("float32", "float64")
    )
)
def centre_lines(columns: np.ndarray, first: int, means: np.ndarray, out: np.ndarray) -> None:
    """`centre_columns` of some rows, of numbers of which each column lies together.

    Parameters
    ----------
    columns : ndarray of shape (n_columns, at least first + n_rows), float32 or float64
    first : int
        Of the rows.
    means : ndarray of shape (n_columns,), float64
    out : ndarray of shape (n_columns, n_rows)

    Notes
    -----
    Sixteen sums side by side, as each waits for the one before.
    """
    n_columns, n_rows = out.shape
    sums = np.empty(_SUMS, np.float64)
    for j in range(n_columns):
        line, centred = columns[j, first:], out[j]
        zero = line[0]
        sums[:] = 0.0
        for i in range(0, n_rows // _SUMS * _SUMS, _SUMS):
            part = line[i:]
            for k in range(_SUMS):
                sums[k] += np.float64(part[k] - zero)
        mean = np.float64(0.0)
        for k in range(_SUMS):
            mean += sums[k]
        for i in range(n_rows // _SUMS * _SUMS, n_rows):
            mean += np.float64(line[i] - zero)
        mean /= np.float64(n_rows)
        means[j] = mean
        for i in range(n_rows):
            centred[i] = np.float64(line[i] - zero) - mean


@kernel(
    *(
        f"float64(Array({cell}, 2, 'C', readonly=True), float64[::1], float64[:, ::1])"
        for cell in ("float32", "float64")
    )
)
def centre_products(products: np.ndarray, sums: np.ndarray, out: np.ndarray) -> float:
    """Products of rows, U-centred: zero on the diagonal and in the sum of every row.

    Parameters
    ----------
    products : ndarray of shape (n_rows, n_rows), float32 or float64
    sums : ndarray of shape (n_rows,), float64
        Room for the sums of rows.
    out : ndarray of shape (n_rows, n_rows), float64

    Returns
    -------
    float
        Which part of the squares of all values is not due to the means of columns; NaN where a product is not finite.
    """
    n, total = products.shape[0], np.float64(0.0)
    squares = of_means = np.float64(0.0)
    for i in range(n):
        row, found = products[i], np.float64(0.0)
        for j in range(n):
            found += np.float64(row[j])
        squares += np.float64(row[i])
        of_means += found / np.float64(n)
        sums[i] = (found - np.float64(row[i])) / np.float64(n - 2)
        total += sums[i]
    total /= np.float64(n - 1)
    for i in range(n):
        row, line, less = products[i], out[i], total - sums[i]
        for j in range(n):
            line[j] = np.float64(row[j]) + (less - sums[j])
        line[i] = 0.0
    return 1.0 if squares == 0.0 else 1.0 - of_means / squares
