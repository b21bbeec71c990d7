"""Codes in streams by context: what their left neighbour is tells what they may be."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_ZERO = np.uint64(0)


@kernel("void(Array(uint8, 2, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), uint8[:, ::1], int64[::1])")
def split_codes(codes: np.ndarray, context_of: np.ndarray, streams: np.ndarray, counts: np.ndarray) -> None:
    """Each code behind the others of its context, in the order of columns.

    Parameters
    ----------
    codes : ndarray of shape (n_columns, n_rows), uint8
    context_of : ndarray of shape (256,), uint8
        The context of what follows a code, in the next column of the same row. The first column follows zeros.
    streams : ndarray of shape (4, n_codes + 1), uint8
    counts : ndarray of shape (4,), int64
        Receives the length of each stream.
    """
    n_columns, n_rows = codes.shape
    a, b, c, d = streams[0], streams[1], streams[2], streams[3]
    at_a = at_b = at_c = at_d = _ZERO
    for column in range(n_columns):
        line, before = codes[column], codes[max(column - 1, 0)]
        for row in range(n_rows):
            code, context = line[row], context_of[before[row]] if column > 0 else context_of[0]
            # To all four, and on in one: where the next goes cannot be foreseen, so there is no branch.
            a[at_a] = b[at_b] = c[at_c] = d[at_d] = code
            at_a += np.uint64(context == 0)
            at_b += np.uint64(context == 1)
            at_c += np.uint64(context == 2)
            at_d += np.uint64(context == 3)
    counts[0], counts[1], counts[2], counts[3] = at_a, at_b, at_c, at_d


@kernel(
    "boolean(Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1], Array(uint8, 1, 'C', readonly=True),"
    " uint8[:, ::1])"
)
def join_codes(
    streams: np.ndarray, places: np.ndarray, ends: np.ndarray, context_of: np.ndarray, codes: np.ndarray
) -> bool:
    """The inverse of `split_codes`; false if a stream is too short.

    Parameters
    ----------
    streams : ndarray of shape (n_codes,), uint8
        One behind the other.
    places, ends : ndarray of shape (n_contexts,), int64
        Where each stream begins and ends; `places` is used up.
    context_of : ndarray of shape (256,), uint8
    codes : ndarray of shape (n_columns, n_rows), uint8
        Receives the codes.
    """
    n_columns, n_rows = codes.shape
    for column in range(n_columns):
        line = codes[column]
        before = codes[max(column - 1, 0)]
        for row in range(n_rows):
            context = context_of[before[row] if column > 0 else np.uint8(0)]
            place = places[context]
            if place >= ends[context]:
                return False
            line[row] = streams[place]
            places[context] = place + 1
    return True
