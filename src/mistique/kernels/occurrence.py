"""Values numbered by their first occurrence: columns that differ only in what their values are get equal numbers."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

# 2**64 over the golden ratio: multiplying spreads neighbouring values over the table (Knuth, TAOCP 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@kernel("int64(Array(uint64, 1, 'C', readonly=True), int64[::1], uint64, uint32[::1], uint64[::1])")
def number_values(
    values: np.ndarray, table: np.ndarray, shift: np.uint64, numbers: np.ndarray, distinct: np.ndarray
) -> int:
    """Number each value by its first occurrence; how many distinct ones there are, or -1 when `distinct` is full.

    Parameters
    ----------
    values : ndarray of shape (n_rows,), uint64
        The bits of the values.
    table : ndarray of shape (2 ** k,), int64
        Filled with -1; at least twice as long as `distinct`.
    shift : int
        ``64 - k``.
    numbers : ndarray of shape (n_rows,), uint32
        Receives the numbers.
    distinct : ndarray of uint64
        Receives the distinct values in the order of their numbers.
    """
    n_distinct = np.int64(0)
    last = table.size - 1
    for i in range(values.size):
        value = values[i]
        slot = np.int64((value * _SPREAD) >> shift)
        while table[slot] >= 0 and distinct[table[slot]] != value:
            slot = (slot + 1) & last
        if table[slot] < 0:
            if n_distinct == distinct.size:
                return np.int64(-1)
            table[slot] = n_distinct
            distinct[n_distinct] = value
            n_distinct += 1
        numbers[i] = table[slot]
    return n_distinct
