"""Range asymmetric numeral systems over small codes, with the codes of neighbouring columns as context.

Source: Duda, arXiv:1311.2540. Codes lie as (n_columns, n_rows). The context of a code is the sum of the codes of the
same row one column and `lag` columns before: all of a column's contexts are known before any of its codes is, so four
states work side by side.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

# Probabilities are multiples of 2**-11: finer ones gain less than 0.1%, and the table of eight contexts stays in cache.
PROBABILITY_BITS = 11
N_SUMS = 511
STATE_LOW = 1 << 15
_ZERO, _ONE, _S3, _S4, _S11, _S16, _S20, _S42 = (np.uint64(n) for n in (0, 1, 3, 4, 11, 16, 20, 42))
_M11, _M16, _LOW = np.uint64(2**11 - 1), np.uint64(2**16 - 1), np.uint64(STATE_LOW)
_TOTAL = np.uint64(1 << PROBABILITY_BITS)


@kernel("void(Array(uint8, 2, 'C', readonly=True), int64, int64, int64, uint16[::1])")
def neighbour_sums(codes: np.ndarray, column: int, lag: int, step: int, sums: np.ndarray) -> None:
    """Sums of every `step`-th row of a column: 0 in the first, twice the left neighbour below `lag`."""
    n = sums.size
    if column == 0:
        sums[:] = np.uint16(0)
        return
    left = codes[column - 1]
    other = codes[column - lag] if column >= lag else left
    for i in range(n):
        sums[i] = np.uint16(left[i * step]) + np.uint16(other[i * step])


@kernel("void(Array(uint8, 2, 'C', readonly=True), int64, int64, int64[::1])")
def count_sums(codes: np.ndarray, lag: int, step: int, counts: np.ndarray) -> None:
    """How often each sum of neighbours comes up, over every `step`-th row."""
    sums = np.empty(-(-codes.shape[1] // step), np.uint16)
    for column in range(codes.shape[0]):
        neighbour_sums(codes, column, lag, step, sums)
        for i in range(sums.size):
            counts[sums[i]] += 1


@kernel("void(Array(uint8, 2, 'C', readonly=True), int64, Array(uint16, 1, 'C', readonly=True), int64[:, ::1])")
def count_codes(codes: np.ndarray, lag: int, contexts: np.ndarray, counts: np.ndarray) -> None:
    """How often each code comes up in each context, in four parts (4, n_contexts * 256).

    Four, as most codes are the same one, and a counter that was just written is slow to read again.
    """
    n = codes.shape[1]
    sums = np.empty(n, np.uint16)
    a, b, c, d = counts[0], counts[1], counts[2], counts[3]
    for column in range(codes.shape[0]):
        neighbour_sums(codes, column, lag, 1, sums)
        row = codes[column]
        for i in range(n):
            sums[i] = contexts[sums[i]] | np.uint16(row[i])
        for quarter in range(n // 4):
            place = np.uint64(4 * quarter)
            a[sums[place]] += 1
            b[sums[place + _ONE]] += 1
            c[sums[place + np.uint64(2)]] += 1
            d[sums[place + np.uint64(3)]] += 1
        for i in range(n // 4 * 4, n):
            a[sums[i]] += 1


@kernel("int64(Array(uint8, 2, 'C', readonly=True), int64)")
def best_lag(codes: np.ndarray, step: int) -> np.int64:
    """How many columns before a code its likest is, 2 to half of the columns, by every `step`-th row of 64 columns."""
    best, least = np.int64(1), np.inf
    for lag in range(2, codes.shape[0] // 2 + 1):
        difference, n_columns = np.int64(0), np.int64(0)
        for column in range(lag, codes.shape[0], max((codes.shape[0] - lag) // 64, 1)):
            n_columns += 1
            for i in range(0, codes.shape[1], step):
                difference += abs(np.int64(codes[column, i]) - np.int64(codes[column - lag, i]))
        mean = np.float64(difference) / np.float64(n_columns)
        if mean < least:
            best, least = np.int64(lag), mean
    return best


@kernel("void(int64[:, ::1])")
def normalize(counts: np.ndarray) -> None:
    """Counts of each context in multiples of 2**-11 that add up to one; none that was there becomes zero."""
    for context in range(counts.shape[0]):
        row = counts[context]
        total = row.sum()
        if total == 0:
            row[0] = total = np.int64(1)
        for code in range(row.size):
            if row[code] > 0:
                row[code] = max((row[code] << PROBABILITY_BITS) // total, np.int64(1))
        while row.sum() != 1 << PROBABILITY_BITS:
            # The largest takes what rounding left over, or gives what the ones took; half of it at most.
            largest = np.argmax(row)
            row[largest] += max((np.int64(1) << PROBABILITY_BITS) - row.sum(), -(row[largest] // 2))


@kernel("UniTuple(uint64, 2)(uint64, uint64, uint64, uint64, uint16[::1])")
def _push(
    state: np.uint64, entry: np.uint64, inverse: np.uint64, at: np.uint64, out: np.ndarray
) -> tuple[np.uint64, np.uint64]:
    """One code onto a state, and where the next word goes."""
    frequency = entry & _M16
    out[at] = state
    full = np.uint64(state >= frequency << _S20)
    # Arithmetic and no branch: whether a state is full cannot be foreseen.
    state >>= full << _S4
    # state // frequency: exact, as state < frequency * 2**20 and inverse = 2**42 // frequency + 1.
    state += ((state * inverse) >> _S42) * (_TOTAL - frequency) + (entry >> _S16)
    return state, at - full


@kernel(
    "int64(Array(uint8, 2, 'C', readonly=True), int64, Array(uint16, 1, 'C', readonly=True), uint64[::1],"
    " uint64[::1], uint16[::1])"
)
def encode_rans(
    codes: np.ndarray, lag: int, contexts: np.ndarray, entries: np.ndarray, inverses: np.ndarray, out: np.ndarray
) -> np.int64:
    """Words of the codes, written to the end of `out`; the number of words that are left free before them.

    Parameters
    ----------
    codes : ndarray of shape (n_columns, n_rows), uint8
    lag : int
    contexts : ndarray of shape (N_SUMS,), uint16
        The context of each sum, times 256.
    entries, inverses : ndarray of shape (n_contexts * 256,), uint64
        ``start << 16 | frequency`` and ``2**42 // frequency + 1`` of each code.
    out : ndarray of shape (codes.size + 9,), uint16
    """
    n = codes.shape[1]
    a = b = c = d = _LOW
    at = np.uint64(out.size - 1)
    sums = np.empty(n, np.uint16)
    places = np.empty(n, np.uint16)
    for column in range(codes.shape[0] - 1, -1, -1):
        neighbour_sums(codes, column, lag, 1, sums)
        row = codes[column]
        for i in range(n):
            places[i] = contexts[sums[i]] | np.uint16(row[i])
        for i in range(n - 1, n // 4 * 4 - 1, -1):
            a, at = _push(a, entries[places[i]], inverses[places[i]], at, out)
        for quarter in range(n // 4):
            first = np.uint64((n // 4 - 1 - quarter) * 4)
            place = places[first + np.uint64(3)]
            d, at = _push(d, entries[place], inverses[place], at, out)
            place = places[first + np.uint64(2)]
            c, at = _push(c, entries[place], inverses[place], at, out)
            place = places[first + _ONE]
            b, at = _push(b, entries[place], inverses[place], at, out)
            place = places[first]
            a, at = _push(a, entries[place], inverses[place], at, out)
    free = np.int64(at) - 7
    for i, state in enumerate((a, b, c, d)):
        out[free + 2 * i] = state & _M16
        out[free + 2 * i + 1] = state >> _S16
    return free


@kernel("Tuple((uint64, uint64, uint8))(uint64, uint64, uint64, uint8[::1], uint32[::1], uint16[::1])")
def _pop(
    state: np.uint64, at: np.uint64, context: np.uint64, slots: np.ndarray, entries: np.ndarray, words: np.ndarray
) -> tuple[np.uint64, np.uint64, np.uint8]:
    """One code from a state, and where the next word is."""
    slot = state & _M11
    code = slots[context << _S3 | slot]
    entry = np.uint64(entries[context | np.uint64(code)])
    state = (entry & _M16) * (state >> _S11) + slot - (entry >> _S16)
    low = np.uint64(state < _LOW)
    # Arithmetic and no branch: whether a state is low cannot be foreseen.
    state = (state << (low << _S4)) | (np.uint64(words[at]) & (_ZERO - low))
    return state, at + low, code


@kernel("boolean(uint16[::1], int64, Array(uint16, 1, 'C', readonly=True), uint8[::1], uint32[::1], uint8[:, ::1])")
def decode_rans(
    words: np.ndarray, lag: int, contexts: np.ndarray, slots: np.ndarray, entries: np.ndarray, codes: np.ndarray
) -> bool:
    """Codes of words, into `codes`; whether the words were all used and end as they began.

    Parameters
    ----------
    words : ndarray of shape (n_words + n_rows,), uint16
        With as many zeros at their end as a column has rows: damaged words are noticed once a column.
    lag : int
    contexts : ndarray of shape (N_SUMS,), uint16
        The context of each sum, times 256.
    slots : ndarray of shape (n_contexts * 2048,), uint8
        The code at each place of the range.
    entries : ndarray of shape (n_contexts * 256,), uint32
        ``start << 16 | frequency`` of each code.
    codes : ndarray of shape (n_columns, n_rows), uint8
    """
    n = codes.shape[1]
    end = np.uint64(words.size - n)
    a = np.uint64(words[0]) | np.uint64(words[1]) << _S16
    b = np.uint64(words[2]) | np.uint64(words[3]) << _S16
    c = np.uint64(words[4]) | np.uint64(words[5]) << _S16
    d = np.uint64(words[6]) | np.uint64(words[7]) << _S16
    at = np.uint64(8)
    sums = np.empty(n, np.uint16)
    for column in range(codes.shape[0]):
        if at > end:
            return False
        neighbour_sums(codes, column, lag, 1, sums)
        for i in range(n):
            sums[i] = contexts[sums[i]]
        row = codes[column]
        for quarter in range(n // 4):
            h = np.uint64(4 * quarter)
            j, k, m = h + _ONE, h + np.uint64(2), h + np.uint64(3)
            a, at, row[h] = _pop(a, at, np.uint64(sums[h]), slots, entries, words)
            b, at, row[j] = _pop(b, at, np.uint64(sums[j]), slots, entries, words)
            c, at, row[k] = _pop(c, at, np.uint64(sums[k]), slots, entries, words)
            d, at, row[m] = _pop(d, at, np.uint64(sums[m]), slots, entries, words)
        for i in range(n // 4 * 4, n):
            a, at, row[i] = _pop(a, at, np.uint64(sums[i]), slots, entries, words)
    return bool(at == end and a == _LOW and b == _LOW and c == _LOW and d == _LOW)
