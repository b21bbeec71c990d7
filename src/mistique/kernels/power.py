"""Codes that are uniform in the square root of the value: fine near zero, coarse near the largest."""

from __future__ import annotations

import math

import numpy as np

from mistique.kernels.compile import kernel

NAN_CODE, POSITIVE_INF_CODE, NEGATIVE_INF_CODE = 255, 254, 253


@kernel("void(Array(float64, 1, 'C', readonly=True), float64[::1])")
def value_range(values: np.ndarray, out: np.ndarray) -> None:
    """Largest magnitude of the finite values, and 1.0 if any value is below zero."""
    largest = np.float64(0.0)
    has_negative = np.float64(0.0)
    for i in range(values.size):
        v = values[i]
        if v < 0.0:
            has_negative = np.float64(1.0)
        if math.isfinite(v) and abs(v) > largest:
            largest = abs(v)
    out[0] = largest
    out[1] = has_negative


@kernel("void(Array(float64, 1, 'C', readonly=True), float64, int64, int64, uint8[::1])")
def encode_power(values: np.ndarray, largest: float, n_levels: int, negative_offset: int, codes: np.ndarray) -> None:
    """Codes of values: 0 is zero, 1..n_levels positive, the same plus `negative_offset` negative.

    A value that is not zero never gets the code of zero, so which units fire is kept.
    """
    scale = np.float64(0.0)
    if largest > 0.0:
        scale = np.float64(n_levels)
    for i in range(values.size):
        v = values[i]
        if v == 0.0:
            codes[i] = 0
        elif math.isnan(v):
            codes[i] = NAN_CODE
        elif math.isinf(v):
            codes[i] = POSITIVE_INF_CODE if v > 0.0 else NEGATIVE_INF_CODE
        else:
            level = np.int64(math.sqrt(abs(v) / largest) * scale + 0.5)
            if level < 1:
                level = np.int64(1)
            if level > n_levels:
                level = np.int64(n_levels)
            codes[i] = level if v > 0.0 else level + negative_offset


@kernel("void(Array(uint8, 1, 'C', readonly=True), float64[::1], float64[::1])")
def decode_power(codes: np.ndarray, table: np.ndarray, values: np.ndarray) -> None:
    """Values of codes, by a table of 256."""
    for i in range(codes.size):
        values[i] = table[codes[i]]
