"""Codes by the top 16 bits of a float32: a histogram of them, and a table from them to codes."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_SIXTEEN = np.uint32(16)


@kernel("void(Array(uint32, 1, 'C', readonly=True), int64, uint8[::1], int64[::1])")
def count_tops(patterns: np.ndarray, step: int, is_there: np.ndarray, counts: np.ndarray) -> None:
    """Which 16 bits float32 bit patterns begin with, of all, and how many, of every `step`-th.

    Not all are counted: a counter that was just written is slow to read again, and half of a layer is zeros.
    """
    for i in range(patterns.size):
        is_there[patterns[i] >> _SIXTEEN] = 1
    for i in range(0, patterns.size, step):
        counts[patterns[i] >> _SIXTEEN] += 1


@kernel("void(Array(uint32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), uint8[::1])")
def encode_tops(patterns: np.ndarray, table: np.ndarray, codes: np.ndarray) -> None:
    """The code that a table of 65,536 has for each bit pattern."""
    for i in range(patterns.size):
        codes[i] = table[patterns[i] >> _SIXTEEN]
