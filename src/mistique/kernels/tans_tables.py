"""The tables of the coder in `tans`: frequencies, and what each state yields and becomes.

They are cut as in RFC 8878, section 4.1.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_M32 = np.int64(0xFFFFFFFF)
# States that a code is dealt into at once.
_AT_ONCE = 8


@kernel("void(int64[:, ::1], int64)")
def normalize(counts: np.ndarray, table_bits: int) -> None:
    """Counts of each context in multiples of ``2**-table_bits``, adding up to one; none that was there becomes zero."""
    for context in range(counts.shape[0]):
        row = counts[context]
        total = row.sum()
        if total == 0:
            row[0] = total = np.int64(1)
        for code in range(row.size):
            if row[code] > 0:
                row[code] = max((row[code] << table_bits) // total, np.int64(1))
        while row.sum() != np.int64(1) << table_bits:
            # The largest takes what rounding left over, or gives what the ones took; half of it at most.
            largest = np.argmax(row)
            row[largest] += max((np.int64(1) << table_bits) - row.sum(), -(row[largest] // 2))


@kernel("int64(int64)")
def step_of(n_states: np.int64) -> np.int64:
    """From a state to that of the next code dealt out."""
    return np.int64((n_states >> 1) + (n_states >> 3) + 3)


@kernel("int64(int64)")
def inverse_of(step: np.int64) -> np.int64:
    """Its inverse modulo 2**64, of an odd step: three bits of it are its own, and each round doubles those found."""
    inverse = np.int64(step)
    for _ in range(5):
        inverse *= 2 - step * inverse
    return inverse


@kernel("void(Array(int64, 1, 'C', readonly=True), uint8[::1])")
def spread(frequencies: np.ndarray, symbols: np.ndarray) -> None:
    """The code of each state, every code in as many states as its frequency, far from one another."""
    n_states = np.int64(symbols.size)
    step, state = step_of(n_states), np.int64(0)
    for code in range(frequencies.size):
        for _ in range(frequencies[code]):
            symbols[state] = code
            state = (state + step) & (n_states - 1)


@kernel(
    "boolean(Array(uint8, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), int64, uint8[::1], uint16[::1])"
)
def _deal(low: np.ndarray, high: np.ndarray, n_states: np.int64, dealt: np.ndarray, following: np.ndarray) -> bool:
    """The codes of a context in the order in which `spread` deals them out, and the frequency of each.

    Most codes have few states: so many are written at once, and the next code writes over what is too much.
    """
    place = np.int64(0)
    for code in range(low.size):
        frequency = np.int64(low[code]) | np.int64(high[code]) << 8
        if place + frequency > n_states:
            return False
        following[code] = frequency
        byte, at = np.uint8(code), np.uint64(place)
        for i in range(_AT_ONCE):
            dealt[at + np.uint64(i)] = byte
        for i in range(_AT_ONCE, frequency):
            dealt[at + np.uint64(i)] = byte
        place += frequency
    return bool(place == n_states)


@kernel(
    "void(uint8[:, ::1], uint16[:, ::1], Array(uint32, 1, 'C', readonly=True), uint64, uint32[::1], uint32[::1])",
)
def _number(
    dealt: np.ndarray,
    following: np.ndarray,
    entries: np.ndarray,
    turns: np.uint64,
    table: np.ndarray,
    other_table: np.ndarray,
) -> None:
    """The tables of two contexts side by side: the number of a frequent code waits for the one before.

    Of eight at once the cells that are written push one another out of the cache: it took half as long again.
    """
    codes, other_codes, numbers, other_numbers = dealt[0], dealt[1], following[0], following[1]
    place, mask = np.uint64(0), np.uint64(table.size - 1)
    for state in range(np.uint64(table.size)):
        code, other = codes[place], other_codes[place]
        place = (place + turns) & mask
        x, y = numbers[code], other_numbers[other]
        numbers[code], other_numbers[other] = x + np.uint16(1), y + np.uint16(1)
        table[state] = entries[x] | np.uint32(code)
        other_table[state] = entries[y] | np.uint32(other)


@kernel("boolean(Array(uint8, 1, 'C', readonly=True), int64, uint32[:, ::1])")
def decoding_tables(planes: np.ndarray, table_bits: int, tables: np.ndarray) -> bool:
    """For each state of each context: its code, how many bits follow, and what they are added to.

    Parameters
    ----------
    planes : ndarray of shape (2 * n_contexts * n_codes,), uint8
        Frequencies of the codes of each context: the low bytes of all, then the high bytes.
    table_bits : int
    tables : ndarray of shape (n_contexts, 2**table_bits), uint32
        ``code | n_bits << 8 | base << 16``.

    Returns
    -------
    bool
        False: the frequencies of a context do not add up to ``2**table_bits``, and there are no tables.
    """
    n_states, n_contexts = np.int64(1) << table_bits, tables.shape[0]
    n_codes = planes.size // (2 * n_contexts)
    # What follows does not depend on the code, so it is reckoned once for all contexts.
    entries = np.zeros(2 * n_states, np.uint32)
    for width in range(table_bits + 1):
        n_bits = table_bits - width
        for x in range(np.int64(1) << width, np.int64(2) << width):
            entries[x] = np.uint32(n_bits << 8 | ((x << n_bits) - n_states) << 16)
    turns = np.uint64(inverse_of(step_of(n_states)))
    dealt, following = np.zeros((2, n_states + _AT_ONCE), np.uint8), np.zeros((2, 256), np.uint16)
    for context in range(n_contexts):
        side = context & 1
        low = planes[context * n_codes : (context + 1) * n_codes]
        high = planes[(n_contexts + context) * n_codes : (n_contexts + context + 1) * n_codes]
        if not _deal(low, high, n_states, dealt[side], following[side]):
            return False
        if side:
            _number(dealt, following, entries, turns, tables[context - 1], tables[context])
    if n_contexts & 1:  # beside the last there is none: one code in all states stands for it
        dealt[1], following[1, 0] = np.uint8(0), np.uint16(0)
        _number(dealt, following, entries, turns, tables[n_contexts - 1], np.empty(n_states, np.uint32))
    return True


@kernel("void(Array(int64, 2, 'C', readonly=True), int64, int64[:, ::1], uint16[:, ::1])")
def encoding_tables(frequencies: np.ndarray, table_bits: int, steps: np.ndarray, states: np.ndarray) -> None:
    """The inverse of `decoding_tables`.

    Parameters
    ----------
    frequencies : ndarray of shape (n_contexts, n_codes), int64
    table_bits : int
    steps : ndarray of shape (n_contexts, 256), int64
        Of each code, in the low 32 bits what, added to a state, gives its number of bits from bit 16 on; above, what is
        added to the state without these bits to find the place of the next in `states`.
    states : ndarray of shape (n_contexts, 2**table_bits), uint16
    """
    n_states = np.int64(1) << table_bits
    symbols = np.empty(n_states, np.uint8)
    place = np.empty(256, np.int64)
    for context in range(frequencies.shape[0]):
        spread(frequencies[context], symbols)
        first = np.int64(0)
        for code in range(frequencies.shape[1]):
            frequency = frequencies[context, code]
            place[code] = first
            if frequency > 0:
                width = table_bits
                while np.int64(1) << (table_bits - width + 1) <= frequency - 1:
                    width -= 1
                low = (width << 16) - (frequency << width)
                steps[context, code] = (context * n_states + first - frequency) << 32 | (low & _M32)
            first += frequency
        for state in range(n_states):
            symbol = np.int64(symbols[state])
            states[context, place[symbol]] = n_states + state
            place[symbol] += 1
