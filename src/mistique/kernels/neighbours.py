"""What the codes beside a code say of it: the sum of those one column and `lag` columns before."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

N_SUMS = 511
_ONE = np.uint64(1)


@kernel("void(Array(uint8, 1, 'C', readonly=True), int64, int64, int64, int64, uint16[::1])")
def neighbour_sums(flat: np.ndarray, n_rows: int, column: int, lag: int, first: int, sums: np.ndarray) -> None:
    """Sums for the rows of a column from `first` on: 0 in the first column, twice the left neighbour below `lag`.

    The codes come laid flat and no row is left out: so eight rows are added at once, and the coder takes half the time.
    """
    if column == 0:
        sums[:] = np.uint16(0)
        return
    at, above = (column - 1) * n_rows + first, (column - (lag if column >= lag else 1)) * n_rows + first
    left, other = flat[at : at + sums.size], flat[above : above + sums.size]
    for i in range(sums.size):
        sums[i] = np.uint16(left[i]) + np.uint16(other[i])


@kernel("void(Array(uint16, 1, 'C', readonly=True), int64, uint16[::1])")
def context_of_sums(thresholds: np.ndarray, size: int, contexts: np.ndarray) -> None:
    """For each sum the number of thresholds that it reaches, times `size`. Thresholds are sorted."""
    context = 0
    for i in range(contexts.size):
        while context < thresholds.size and thresholds[context] <= i:
            context += 1
        contexts[i] = np.uint16(context * size)


@kernel("void(Array(uint8, 2, 'C', readonly=True), int64, int64, int64, int64[::1])")
def count_sums(codes: np.ndarray, lag: int, column_step: int, row_step: int, counts: np.ndarray) -> None:
    """How often each sum of neighbours comes up, over every `row_step`-th row of every `column_step`-th column."""
    flat, n = codes.reshape(-1), codes.shape[1]
    sums = np.empty(n, np.uint16)
    for column in range(0, codes.shape[0], column_step):
        neighbour_sums(flat, n, column, lag, 0, sums)
        for i in range(0, n, row_step):
            counts[sums[i]] += 1


@kernel("void(Array(uint8, 2, 'C', readonly=True), int64, int64, Array(uint16, 1, 'C', readonly=True), uint32[:, ::1])")
def count_codes(codes: np.ndarray, lag: int, column_step: int, contexts: np.ndarray, counts: np.ndarray) -> None:
    """How often each code comes up in each context, over every `column_step`-th column, in parts (4, n_contexts * 256).

    Four, as most codes are the same one, and a counter that was just written is slow to read again.
    """
    flat, n = codes.reshape(-1), codes.shape[1]
    sums = np.empty(n, np.uint16)
    a, b, c, d = counts[0], counts[1], counts[2], counts[3]
    for column in range(0, codes.shape[0], column_step):
        neighbour_sums(flat, n, column, lag, 0, sums)
        row = flat[column * n : (column + 1) * n]
        for i in range(n):
            sums[i] = contexts[sums[i]] | np.uint16(row[i])
        for quarter in range(n // 4):
            place = np.uint64(4 * quarter)
            a[sums[place]] += np.uint32(1)
            b[sums[place + _ONE]] += np.uint32(1)
            c[sums[place + np.uint64(2)]] += np.uint32(1)
            d[sums[place + np.uint64(3)]] += np.uint32(1)
        for i in range(n // 4 * 4, n):
            a[sums[i]] += np.uint32(1)


@kernel("int64(Array(uint8, 2, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64)")
def best_lag(codes: np.ndarray, lags: np.ndarray, step: int) -> np.int64:
    """The lag at which a code is likest to the one so many columns before, by every `step`-th row of 16 columns."""
    best, least = np.int64(1), np.float64(np.inf)
    for lag in lags:
        difference, n_columns = np.int64(0), np.int64(0)
        for column in range(lag, codes.shape[0], max((codes.shape[0] - lag) // 16, 1)):
            n_columns += 1
            for i in range(0, codes.shape[1], step):
                difference += np.abs(np.int64(codes[column, i]) - np.int64(codes[column - lag, i]))
        if n_columns == 0:
            continue
        mean = np.float64(difference) / np.float64(n_columns)
        if mean < least:
            best, least = lag, mean
    return best
