"""Codes by the top 16 bits of a float32: a histogram of them, and a table from them to codes."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_SIXTEEN = np.uint32(16)


@kernel("void(Array(uint32, 1, 'C', readonly=True), int64, uint8[::1], int64[::1])")
def count_tops(patterns: np.ndarray, step: int, is_there: np.ndarray, counts: np.ndarray) -> None:
    """Which 16 bits float32 bit patterns begin with, of all, and how many, of the first eight of every `8 * step`.

    Not all are counted, and a bin is written once: half of a layer is zeros, and a place in memory that was just
    written is slow to use again (1.3 and 7.3 GB/s).
    """
    for first in range(0, patterns.size, 8 * step):
        few = patterns[first : first + 8]
        for i in range(few.size):
            counts[few[i] >> _SIXTEEN] += 1
        many = patterns[first : first + 8 * step]
        for i in range(many.size):
            top = many[i] >> _SIXTEEN
            if is_there[top] == 0:
                is_there[top] = 1


@kernel("void(Array(uint32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), uint8[::1])")
def encode_tops(patterns: np.ndarray, table: np.ndarray, codes: np.ndarray) -> None:
    """The code that a table of 65,536 has for each bit pattern."""
    for i in range(patterns.size):
        codes[i] = table[patterns[i] >> _SIXTEEN]
