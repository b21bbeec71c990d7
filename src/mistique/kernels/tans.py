"""Tabled asymmetric numeral systems over small codes, with the codes of neighbouring columns as context.

Source: Duda, arXiv:1311.2540. Codes lie as (n_columns, n_rows). All contexts of a column are known before any of its
codes is, so four states work side by side on one stream of bits. What is written last is read first.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel
from mistique.kernels.neighbours import neighbour_sums

# Four codes take at most this many bits: one look at the stream serves all four.
MAX_TABLE_BITS = 12
_WINDOW = np.int64(4 * MAX_TABLE_BITS)
_M32 = np.int64(0xFFFFFFFF)
_ONE, _U63 = np.uint64(1), np.uint64(63)


@kernel("Tuple((int64, int64, int64))(int64, int64, int64, int64, uint16[::1])")
def _push(
    state: np.int64, step: np.int64, pending: np.int64, n_pending: np.int64, states: np.ndarray
) -> tuple[np.int64, np.int64, np.int64]:
    """One code onto a state: the next state, the bits that wait to be written, and how many."""
    n_bits = (state + (step & _M32)) >> 16
    pending |= (state & ((np.int64(1) << n_bits) - 1)) << n_pending
    return np.int64(states[np.uint64((state >> n_bits) + (step >> 32))]), pending, n_pending + n_bits


@kernel("Tuple((int64, int64, int64))(int64, int64, int64, uint32[::1])")
def _flush(
    pending: np.int64, n_pending: np.int64, at: np.int64, out: np.ndarray
) -> tuple[np.int64, np.int64, np.int64]:
    """Write 32 bits if there are so many: arithmetic and no branch, as that cannot be foreseen."""
    out[np.uint64(at)] = np.uint32(pending & _M32)
    full = n_pending >> 5
    return pending >> (full << 5), n_pending - (full << 5), at + full


@kernel(
    "void(Array(uint8, 2, 'C', readonly=True), int64, int64, Array(uint16, 1, 'C', readonly=True), int64, int64[::1],"
    " uint16[::1], uint32[::1], int64[::1])"
)
def encode_tans(
    codes: np.ndarray,
    part_rows: int,
    lag: int,
    contexts: np.ndarray,
    table_bits: int,
    steps: np.ndarray,
    states: np.ndarray,
    out: np.ndarray,
    ends: np.ndarray,
) -> None:
    """Bits of the codes, from the lowest of `out` on, part after part: each can be decoded without the others.

    Parameters
    ----------
    codes : ndarray of shape (n_columns, n_rows), uint8
    part_rows : int
        Rows of a part; the last has what is left.
    lag : int
    contexts : ndarray of shape (N_SUMS,), uint16
        The context of each sum, times 256.
    table_bits : int
    steps : ndarray of shape (n_contexts * 256,), int64
    states : ndarray of shape (n_contexts * 2**table_bits,), uint16
    out : ndarray of shape ((codes.size + 4 * n_parts) * table_bits // 32 + 4,), uint32
    ends : ndarray of shape (n_parts,), int64
        The number of bits up to the end of each part.
    """
    flat, n_rows = codes.reshape(-1), codes.shape[1]
    pending = n_pending = at = np.int64(0)
    for part in range(ends.size):
        first_row = part * part_rows
        n = min(n_rows - first_row, part_rows)
        a = b = c = d = np.int64(1) << table_bits
        sums = np.empty(n, np.uint16)
        for column in range(codes.shape[0] - 1, -1, -1):
            neighbour_sums(flat, n_rows, column, lag, first_row, sums)
            row = flat[column * n_rows + first_row : column * n_rows + first_row + n]
            for i in range(n - 1, n // 4 * 4 - 1, -1):
                a, pending, n_pending = _push(
                    a, steps[contexts[sums[i]] | np.uint16(row[i])], pending, n_pending, states
                )
                pending, n_pending, at = _flush(pending, n_pending, at, out)
            for quarter in range(n // 4):
                first = np.uint64((n // 4 - 1 - quarter) * 4)
                d, pending, n_pending = _push(
                    d,
                    steps[contexts[sums[first + np.uint64(3)]] | np.uint16(row[first + np.uint64(3)])],
                    pending,
                    n_pending,
                    states,
                )
                c, pending, n_pending = _push(
                    c,
                    steps[contexts[sums[first + np.uint64(2)]] | np.uint16(row[first + np.uint64(2)])],
                    pending,
                    n_pending,
                    states,
                )
                pending, n_pending, at = _flush(pending, n_pending, at, out)
                b, pending, n_pending = _push(
                    b, steps[contexts[sums[first + _ONE]] | np.uint16(row[first + _ONE])], pending, n_pending, states
                )
                a, pending, n_pending = _push(
                    a, steps[contexts[sums[first]] | np.uint16(row[first])], pending, n_pending, states
                )
                pending, n_pending, at = _flush(pending, n_pending, at, out)
        for state in (d, c, b, a):
            pending |= (state - (np.int64(1) << table_bits)) << n_pending
            pending, n_pending, at = _flush(pending, n_pending + table_bits, at, out)
        ends[part] = at * 32 + n_pending
    out[at] = np.uint32(pending & _M32)


@kernel("int64(int64)", is_short=True)
def guard_words(n_rows: int) -> int:
    """Words of zeros before the bits, as many as a column can take: damage is noticed once a column."""
    return (n_rows * MAX_TABLE_BITS + 64 + 63) // 64


@kernel("int64(int64, uint64[::1])")
def _window(at: np.int64, words: np.ndarray) -> np.int64:
    """The 48 bits below a place in the stream."""
    low = np.uint64(at - _WINDOW)
    word, shift = low >> np.uint64(6), low & _U63
    found = words[word] >> shift | (words[word + _ONE] << _ONE) << (_U63 - shift)
    return np.int64(found & np.uint64((1 << 48) - 1))


@kernel("Tuple((int64, int64, uint8))(int64, int64, uint32)")
def _pop(window: np.int64, left: np.int64, entry: np.uint32) -> tuple[np.int64, np.int64, np.uint8]:
    """From the entry of a state: the next state, how much of the window is left, and the code."""
    n_bits = np.int64((entry >> np.uint32(8)) & np.uint32(0xFF))
    left -= n_bits
    state = np.int64(entry >> np.uint32(16)) + ((window >> left) & ((np.int64(1) << n_bits) - 1))
    return state, left, np.uint8(entry & np.uint32(0xFF))


@kernel("UniTuple(int64, 5)(int64, int64, uint64[::1])")
def _first_states(at: np.int64, table_bits: int, words: np.ndarray) -> tuple[np.int64, ...]:
    """The four states that the bits of a part end with, and where the bits before them end."""
    window, mask = _window(at, words), (np.int64(1) << table_bits) - 1
    a, b = (window >> (_WINDOW - table_bits)) & mask, (window >> (_WINDOW - 2 * table_bits)) & mask
    c, d = (window >> (_WINDOW - 3 * table_bits)) & mask, (window >> (_WINDOW - 4 * table_bits)) & mask
    return a, b, c, d, at - 4 * table_bits


@kernel(
    "int64(uint64[::1], Array(int64, 1, 'C', readonly=True), int64, int64, Array(uint16, 1, 'C', readonly=True), int64,"
    " uint32[::1], uint8[:, ::1])"
)
def decode_part(
    words: np.ndarray,
    part: np.ndarray,
    first_row: int,
    lag: int,
    contexts: np.ndarray,
    table_bits: int,
    tables: np.ndarray,
    codes: np.ndarray,
) -> np.int64:
    """`decode_tans` of one part, into the rows from `first_row` on."""
    flat, n_rows = codes.reshape(-1), codes.shape[1]
    first_bit, n = part[0], part[2]
    a, b, c, d, at = _first_states(part[1], table_bits, words)
    sums = np.empty(n, np.uint16)
    for column in range(codes.shape[0]):
        if at < first_bit:
            return np.int64(-1)
        neighbour_sums(flat, n_rows, column, lag, first_row, sums)
        row = flat[column * n_rows + first_row : column * n_rows + first_row + n]
        for quarter in range(n // 4):
            h = np.uint64(4 * quarter)
            j, k, m = h + _ONE, h + np.uint64(2), h + np.uint64(3)
            window, left = _window(at, words), _WINDOW
            a, left, row[h] = _pop(window, left, tables[np.uint64(contexts[sums[h]]) + np.uint64(a)])
            b, left, row[j] = _pop(window, left, tables[np.uint64(contexts[sums[j]]) + np.uint64(b)])
            c, left, row[k] = _pop(window, left, tables[np.uint64(contexts[sums[k]]) + np.uint64(c)])
            d, left, row[m] = _pop(window, left, tables[np.uint64(contexts[sums[m]]) + np.uint64(d)])
            at -= _WINDOW - left
        for i in range(n // 4 * 4, n):
            window = _window(at, words)
            a, left, row[i] = _pop(window, _WINDOW, tables[np.uint64(contexts[sums[i]]) + np.uint64(a)])
            at -= _WINDOW - left
    # Whatever is left of the bits, or of a state, is not zero.
    return np.int64(-1) if at < first_bit else (at - first_bit) | a | b | c | d


@kernel(
    "int64(uint64[::1], Array(int64, 2, 'C', readonly=True), int64, int64, Array(uint16, 1, 'C', readonly=True), int64,"
    " uint32[::1], uint8[:, ::1])"
)
def decode_two_parts(
    words: np.ndarray,
    parts: np.ndarray,
    first_row: int,
    lag: int,
    contexts: np.ndarray,
    table_bits: int,
    tables: np.ndarray,
    codes: np.ndarray,
) -> np.int64:
    """`decode_part` of two parts side by side: while the one waits for its table, the other goes on.

    Both have the same number of rows, a multiple of four.
    """
    flat, n_rows, n = codes.reshape(-1), codes.shape[1], parts[0, 2]
    a, b, c, d, at = _first_states(parts[0, 1], table_bits, words)
    e, f, g, q, at2 = _first_states(parts[1, 1], table_bits, words)
    sums, sums2 = np.empty(n, np.uint16), np.empty(n, np.uint16)
    for column in range(codes.shape[0]):
        if at < parts[0, 0] or at2 < parts[1, 0]:
            return np.int64(-1)
        neighbour_sums(flat, n_rows, column, lag, first_row, sums)
        neighbour_sums(flat, n_rows, column, lag, first_row + n, sums2)
        row = flat[column * n_rows + first_row : column * n_rows + first_row + n]
        row2 = flat[column * n_rows + first_row + n : column * n_rows + first_row + 2 * n]
        for quarter in range(n // 4):
            h = np.uint64(4 * quarter)
            j, k, m = h + _ONE, h + np.uint64(2), h + np.uint64(3)
            window, left, window2, left2 = _window(at, words), _WINDOW, _window(at2, words), _WINDOW
            a, left, row[h] = _pop(window, left, tables[np.uint64(contexts[sums[h]]) + np.uint64(a)])
            e, left2, row2[h] = _pop(window2, left2, tables[np.uint64(contexts[sums2[h]]) + np.uint64(e)])
            b, left, row[j] = _pop(window, left, tables[np.uint64(contexts[sums[j]]) + np.uint64(b)])
            f, left2, row2[j] = _pop(window2, left2, tables[np.uint64(contexts[sums2[j]]) + np.uint64(f)])
            c, left, row[k] = _pop(window, left, tables[np.uint64(contexts[sums[k]]) + np.uint64(c)])
            g, left2, row2[k] = _pop(window2, left2, tables[np.uint64(contexts[sums2[k]]) + np.uint64(g)])
            d, left, row[m] = _pop(window, left, tables[np.uint64(contexts[sums[m]]) + np.uint64(d)])
            q, left2, row2[m] = _pop(window2, left2, tables[np.uint64(contexts[sums2[m]]) + np.uint64(q)])
            at, at2 = at - (_WINDOW - left), at2 - (_WINDOW - left2)
    n_left, n_left2 = at - parts[0, 0], at2 - parts[1, 0]
    return np.int64(-1) if n_left < 0 or n_left2 < 0 else n_left | a | b | c | d | n_left2 | e | f | g | q
