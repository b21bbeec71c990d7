"""Codes of the entropy stage, read bit by bit as docs/format.md has it."""

from __future__ import annotations

import numpy as np


def table_of(frequencies: list[int]) -> list[tuple[int, int, int]]:
    """Of each state: its symbol, how many bits follow, and what they are added to."""
    n_states = sum(frequencies)
    symbols = [0] * n_states
    place = 0
    for symbol, frequency in enumerate(frequencies):
        for _ in range(frequency):
            symbols[place] = symbol
            place = (place + n_states // 2 + n_states // 8 + 3) % n_states
    seen = list(frequencies)
    found = []
    for symbol in symbols:
        x, n_bits = seen[symbol], 0
        while x << n_bits < n_states:
            n_bits += 1
        found.append((symbol, n_bits, (x << n_bits) - n_states))
        seen[symbol] += 1
    return found


def codes_of(
    body: bytes,
    begin: int,
    end: int,
    shape: tuple[int, int],
    *,
    lag: int,
    thresholds: list[int],
    frequencies: list[list[int]],
) -> np.ndarray:
    """The codes of one part, whose bits begin and end there."""
    bits = list(np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[begin:end])

    def number(n: int) -> int:
        found = 0
        for _ in range(n):
            found = 2 * found + int(bits.pop())
        return found

    tables = [table_of(row) for row in frequencies]
    states = [number(len(tables[0]).bit_length() - 1) for _ in range(4)]
    codes = np.zeros(shape, np.uint8)
    for column in range(shape[0]):
        for row in range(shape[1]):
            left = int(codes[column - 1, row]) if column else 0
            above = int(codes[column - lag, row]) if column >= lag else left
            context = sum(threshold <= left + above for threshold in thresholds)
            lane = row % 4 if row < shape[1] // 4 * 4 else 0
            codes[column, row], width, base = tables[context][states[lane]]
            states[lane] = base + number(width)
    assert not bits
    assert states == [0, 0, 0, 0]
    return codes
