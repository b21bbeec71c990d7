"""The tables of the coder in `tans`: frequencies, and what each state yields and becomes.

They are cut as in RFC 8878, section 4.1.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_M32 = np.int64(0xFFFFFFFF)


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
    n_codes, mask = planes.size // (2 * n_contexts), n_states - 1
    # What follows does not depend on the code, so it is reckoned once for all contexts.
    entries = np.empty(2 * n_states, np.uint32)
    for width in range(table_bits + 1):
        n_bits = table_bits - width
        for x in range(np.int64(1) << width, np.int64(2) << width):
            entries[x] = np.uint32(n_bits << 8 | ((x << n_bits) - n_states) << 16)
    # The codes in the order in which `spread` deals them out, and the place of each state in it.
    dealt, following = np.empty((n_contexts, n_states), np.uint8), np.empty((n_contexts, n_codes), np.uint16)
    for context in range(n_contexts):
        first, place = context * n_codes, np.int64(0)
        for code in range(n_codes):
            frequency = np.int64(planes[first + code]) | np.int64(planes[n_contexts * n_codes + first + code]) << 8
            if place + frequency > n_states:
                return False
            following[context, code] = frequency
            dealt[context, place : place + frequency] = code
            place += frequency
        if place != n_states:
            return False
    turns = inverse_of(step_of(n_states))
    for state in range(n_states):
        place = state * turns & mask
        # All contexts side by side: the number of a frequent code waits for the one before.
        for context in range(n_contexts):
            code = dealt[context, place]
            x = following[context, code]
            following[context, code] = x + np.uint16(1)
            tables[context, state] = entries[x] | np.uint32(code)
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
