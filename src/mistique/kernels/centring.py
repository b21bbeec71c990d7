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
    *(f"float64(Array({cell}, 2, 'C', readonly=True), float64[::1], float64[::1])" for cell in ("float32", "float64"))
)
def centre_products(products: np.ndarray, sums: np.ndarray, out: np.ndarray) -> float:
    """Products of rows, U-centred: zero on the diagonal and in the sum of every row.

    Parameters
    ----------
    products : ndarray of shape (n_rows, n_rows), float32 or float64
        What is below the diagonal is not looked at.
    sums : ndarray of shape (n_rows,), float64
        Room for the sums of rows.
    out : ndarray of shape (n_rows * (n_rows - 1) // 2,), float64
        What is above the diagonal, row after row: the same lies below it.

    Returns
    -------
    float
        Which part of the squares of all values is not due to the means of columns; NaN where a product is not finite.
    """
    n, squares, total = products.shape[0], np.float64(0.0), np.float64(0.0)
    few = np.empty(_SUMS, np.float64)
    sums[:] = 0.0
    for i in range(n):
        row, behind = products[i, i + 1 :], sums[i + 1 :]
        for j in range(row.size):
            behind[j] += np.float64(row[j])
        few[:] = 0.0
        whole = row.size // _SUMS * _SUMS
        for j in range(0, whole, _SUMS):
            part = row[j:]
            for k in range(_SUMS):
                few[k] += np.float64(part[k])
        for j in range(whole, row.size):
            few[0] += np.float64(row[j])
        for k in range(_SUMS):
            sums[i] += few[k]
        squares += np.float64(products[i, i])
    for i in range(n):
        total += sums[i]
        sums[i] /= np.float64(n - 2)
    of_means, mean = (total + squares) / np.float64(n), total / np.float64(n - 2) / np.float64(n - 1)
    place = 0
    for i in range(n):
        row, behind, less = products[i, i + 1 :], sums[i + 1 :], mean - sums[i]
        line = out[place : place + row.size]
        for j in range(row.size):
            line[j] = np.float64(row[j]) + (less - behind[j])
        place += row.size
    return 1.0 if squares == 0.0 else 1.0 - of_means / squares


@kernel("float64(float64[::1], float64[::1])")
def _inner_product(a: np.ndarray, b: np.ndarray) -> float:
    few, whole = np.zeros(_SUMS, np.float64), a.size // _SUMS * _SUMS
    for i in range(0, whole, _SUMS):
        part, other = a[i:], b[i:]
        for k in range(_SUMS):
            few[k] += part[k] * other[k]
    found = np.float64(0.0)
    for k in range(_SUMS):
        found += few[k]
    for i in range(whole, a.size):
        found += a[i] * b[i]
    return found


@kernel(
    *(
        f"int64(Array({cell}, 3, 'C', readonly=True), float64[:, :, ::1], int64, float64, float64[::1])"
        for cell in ("float32", "float64")
    )
)
def add_hsic(products: np.ndarray, centred: np.ndarray, layer: int, least: float, total: np.ndarray) -> int:
    """HSIC_1 between a layer and each one up to it, summed over batches of rows, times the rows of one.

    Parameters
    ----------
    products : ndarray of shape (n_batches, n_rows, n_rows), float32 or float64
        Of the rows of the layer, as of `centre_products`.
    centred : ndarray of shape (n_batches, n_layers, n_rows * (n_rows - 1) // 2), float64
        Of the layers before, as `centre_products` gives them; takes that of the layer.
    layer : int
    least : float
        Which part of the squares of all values may be left without the means of columns; 0 and less: any.
    total : ndarray of shape (at least layer + 1,), float64
        To which is added.

    Returns
    -------
    int
        The number of batches that were added: less are left of the next one, if there is one.
    """
    n_rows = products.shape[1]
    sums = np.empty(n_rows, np.float64)
    for batch in range(products.shape[0]):
        left = centre_products(products[batch], sums, centred[batch, layer])
        if least > 0.0 and not left >= least:
            return batch
        for other in range(layer + 1):
            found = _inner_product(centred[batch, other], centred[batch, layer])
            total[other] += 2.0 * found / np.float64(n_rows - 3)
    return len(products)
