"""A payload of `tans` to codes: its bits as words, its tables, its parts side by side where that is quicker.

What belongs together is one call without the GIL: threads that take it back between small steps wait for one another.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel
from mistique.kernels.lanes import IS_QUICK, N_LANES
from mistique.kernels.neighbours import N_SUMS, context_of_sums
from mistique.kernels.tans import decode_part, decode_two_parts
from mistique.kernels.tans_lanes import decode_lanes
from mistique.kernels.tans_tables import decoding_tables

# What `decode_payload` says of frequencies that are none.
NO_TABLES = -2
# Fewer parts, or where eight are no quicker than one by one, are decoded two by two. A lane counts bits in 32 of them.
_FEWEST_LANES, _MAX_LANE_BITS = 4 if IS_QUICK else N_LANES + 1, 2**31


@kernel("void(Array(uint8, 1, 'C', readonly=True), int64, uint64[::1])")
def lay_words(body: np.ndarray, n_guard: int, words: np.ndarray) -> None:
    """The bits of a payload, after `guard_words` words of zeros and before at least one."""
    words[:n_guard] = np.uint64(0)
    words[n_guard + body.size // 8 :] = np.uint64(0)
    words[n_guard:].view(np.uint8)[: body.size] = body


@kernel(
    "int64(uint64[::1], Array(int64, 2, 'C', readonly=True), int64, Array(uint16, 1, 'C', readonly=True), int64,"
    " uint32[::1], uint8[:, ::1])"
)
def decode_tans(
    words: np.ndarray,
    parts: np.ndarray,
    lag: int,
    contexts: np.ndarray,
    table_bits: int,
    tables: np.ndarray,
    codes: np.ndarray,
) -> np.int64:
    """Codes of the bits of some parts, into `codes`, part after part: of all columns, or of the first ones.

    Returns
    -------
    int
        0: the bits were all used and each part ends as it began. More: some are left. Less: there were too few.

    Parameters
    ----------
    words : ndarray of uint64
        As `lay_words` gives them.
    parts : ndarray of shape (n_parts, 3), int64
        Where the bits of a part begin and end, with the zeros before all of them, and its number of rows.
    lag : int
    contexts : ndarray of shape (N_SUMS,), uint16
        The context of each sum, times ``2**table_bits``.
    table_bits : int
    tables : ndarray of shape (n_contexts * 2**table_bits,), uint32
    codes : ndarray of shape (n_columns, rows of the parts), uint8
    """
    n_left, first_row, number = np.int64(0), 0, 0
    while number < parts.shape[0]:
        n, alike = parts[number, 2], 1
        while number + alike < parts.shape[0] and alike < N_LANES and parts[number + alike, 2] == n:
            alike += 1
        some = parts[number : number + alike]
        if alike >= _FEWEST_LANES and n % 4 == 0 and some[-1, 1] < _MAX_LANE_BITS:
            rows = codes[:, first_row : first_row + alike * n]
            found = decode_lanes(words, some, lag, contexts, table_bits, tables, rows)
        elif alike > 1 and n % 4 == 0:
            alike = 2
            found = decode_two_parts(words, some[:2], first_row, lag, contexts, table_bits, tables, codes)
        else:
            alike = 1
            found = decode_part(words, some[0], first_row, lag, contexts, table_bits, tables, codes)
        if found < 0:
            return found
        n_left |= found
        first_row, number = first_row + alike * n, number + alike
    return n_left


@kernel(
    "int64(Array(uint8, 1, 'C', readonly=True), int64, uint64[::1], Array(uint8, 1, 'C', readonly=True),"
    " Array(uint16, 1, 'C', readonly=True), uint32[:, ::1], Array(int64, 2, 'C', readonly=True), int64, int64,"
    " uint8[:, ::1])"
)
def decode_payload(
    body: np.ndarray,
    n_guard: int,
    words: np.ndarray,
    planes: np.ndarray,
    thresholds: np.ndarray,
    tables: np.ndarray,
    parts: np.ndarray,
    lag: int,
    table_bits: int,
    codes: np.ndarray,
) -> np.int64:
    """`lay_words`, `decoding_tables` and `decode_tans` in one.

    Returns
    -------
    int
        As of `decode_tans`, or `NO_TABLES`.

    Parameters
    ----------
    body : ndarray of uint8
        The bits.
    n_guard : int
    words : ndarray of shape (n_guard + body.size // 8 + 2,), uint64
        Room for them.
    planes : ndarray of uint8
        As of `decoding_tables`.
    thresholds : ndarray of shape (n_contexts - 1,), uint16, sorted
        Of sums.
    tables : ndarray of shape (n_contexts, 2**table_bits), uint32
        Room for the tables.
    parts, lag, table_bits, codes
        As of `decode_tans`.
    """
    lay_words(body, n_guard, words)
    if not decoding_tables(planes, table_bits, tables):
        return np.int64(NO_TABLES)
    contexts = np.empty(N_SUMS, np.uint16)
    context_of_sums(thresholds, tables.shape[1], contexts)
    return np.int64(decode_tans(words, parts, lag, contexts, table_bits, tables.reshape(-1), codes))
