"""Codes by the top 16 bits of a float32: a histogram of them, and a table from them to codes."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_SIXTEEN = np.uint32(16)


@kernel("void(Array(uint32, 1, 'C', readonly=True), int64[::1])")
def count_tops(patterns: np.ndarray, counts: np.ndarray) -> None:
    """How many float32 bit patterns begin with each 16 bits."""
    for i in range(patterns.size):
        counts[patterns[i] >> _SIXTEEN] += 1


@kernel("void(Array(uint32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), uint8[::1])")
def encode_tops(patterns: np.ndarray, table: np.ndarray, codes: np.ndarray) -> None:
    """The code that a table of 65,536 has for each bit pattern."""
    for i in range(patterns.size):
        codes[i] = table[patterns[i] >> _SIXTEEN]
