"""Codes that are uniform in the square root of the value: fine near zero, coarse near the largest."""

from __future__ import annotations

import math

import numpy as np

from mistique.kernels.compile import kernel

NAN_CODE, POSITIVE_INF_CODE, NEGATIVE_INF_CODE = 255, 254, 253
_MAGNITUDE = np.uint32(0x7FFFFFFF)


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


@kernel("void(Array(uint32, 1, 'C', readonly=True), uint32[::1])")
def largest_patterns(patterns: np.ndarray, out: np.ndarray) -> None:
    """Largest bit pattern of float32 values without their signs, and with them.

    The first is the largest magnitude, or at least that of infinity; the second is above that of -0.0 if any value is
    below zero.
    """
    magnitude, signed = np.uint32(0), np.uint32(0)
    for i in range(patterns.size):
        pattern = patterns[i]
        magnitude = max(magnitude, np.uint32(pattern & _MAGNITUDE))
        signed = max(signed, pattern)
    out[0] = magnitude
    out[1] = signed


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


@kernel("void(Array(float32, 1, 'C', readonly=True), float32, uint8[::1])")
def encode_power_positive(values: np.ndarray, scale: np.float32, codes: np.ndarray) -> None:
    """`encode_power` of finite float32 values none of which is below zero, in float32 arithmetic.

    Parameters
    ----------
    values : ndarray of shape (n,), float32
    scale : float
        ``n_levels**2 / largest``, normal and finite.
    codes : ndarray of shape (n,), uint8
    """
    half, zero = np.float32(0.5), np.float32(0.0)
    for i in range(values.size):
        # No upper limit: the largest gives n_levels + 0.5 and a few units in the last place.
        level = np.int32(math.sqrt(values[i] * scale) + half)
        codes[i] = max(level, np.int32(values[i] != zero))


@kernel("void(Array(float32, 1, 'C', readonly=True), float32, int32, uint8[::1])")
def encode_power_signed(values: np.ndarray, scale: np.float32, negative_offset: np.int32, codes: np.ndarray) -> None:
    """`encode_power` of finite float32 values, in float32 arithmetic; parameters as `encode_power_positive`."""
    half, zero = np.float32(0.5), np.float32(0.0)
    for i in range(values.size):
        value = values[i]
        level = np.int32(math.sqrt(abs(value) * scale) + half)
        level = max(level, np.int32(value != zero))
        codes[i] = level + (negative_offset if value < zero else np.int32(0))


@kernel("void(Array(uint32, 3, 'C', readonly=True), uint32[::1], uint32[::1])")
def unit_patterns(rows: np.ndarray, magnitudes: np.ndarray, signed: np.ndarray) -> None:
    """`largest_patterns` of each unit of rows (n_rows, n_positions, n_units), into two arrays of zeros (n_units,)."""
    for r in range(rows.shape[0]):
        for p in range(rows.shape[1]):
            line = rows[r, p]
            for u in range(line.size):
                pattern = line[u]
                magnitudes[u] = max(magnitudes[u], np.uint32(pattern & _MAGNITUDE))
                signed[u] = max(signed[u], pattern)


@kernel(
    "void(Array(float32, 3, 'C', readonly=True), Array(float32, 1, 'C', readonly=True),"
    " Array(int32, 1, 'C', readonly=True), uint8[:, :, ::1])"
)
def encode_power_units(rows: np.ndarray, scales: np.ndarray, offsets: np.ndarray, codes: np.ndarray) -> None:
    """`encode_power_signed` of rows (n_rows, n_positions, n_units), each unit with its scale and negative offset.

    The order of the framework is kept: a code is a quarter of a value, so it is the codes that are turned into columns.
    """
    half, zero = np.float32(0.5), np.float32(0.0)
    for r in range(rows.shape[0]):
        for p in range(rows.shape[1]):
            line, out = rows[r, p], codes[r, p]
            for u in range(line.size):
                value = line[u]
                level = np.int32(math.sqrt(abs(value) * scales[u]) + half)
                level = max(level, np.int32(value != zero))
                out[u] = level + (offsets[u] if value < zero else np.int32(0))


@kernel("UniTuple(float64, 2)(Array(float64, 1, 'C', readonly=True))", is_short=True)
def scale_range(scales: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest of some scales; NaN where one is: NumPy's own take three times as long for a few."""
    lowest, highest = scales[0], scales[0]
    for scale in scales:
        # A comparison with NaN is false.
        lowest = lowest if lowest <= scale else scale
        highest = highest if highest >= scale else scale
        if scale != scale:
            return scale, scale
    return lowest, highest


@kernel(
    "void(Array(uint8, 2, 'A', readonly=True), Array(float64, 1, 'C', readonly=True),"
    " Array(float64, 2, 'C', readonly=True), Array(float32, 2, 'A'))"
)
def decode_power(codes: np.ndarray, scales: np.ndarray, tables: np.ndarray, values: np.ndarray) -> None:
    """Values of codes, by the scale of each unit.

    Parameters
    ----------
    codes : ndarray of shape (n_columns, n_rows), uint8
    scales : ndarray of shape (n_units,), float64
        The largest magnitude of each unit of as many columns, with a minus where it has negative values.
    tables : ndarray of shape (2, 256), float64
        What codes stand for at a scale of one, without negative values and with.
    values : ndarray of shape (n_columns, n_rows), float32
    """
    width, n_rows = codes.shape[0] // scales.size, codes.shape[1]
    scaled = np.empty(256, np.float32)
    for unit in range(scales.size):
        scale = scales[unit]
        table = tables[1 if math.copysign(1.0, scale) < 0 else 0]
        largest = abs(scale) if scale != 0 else 1.0  # of zeros it can be anything
        is_tabled = width * n_rows >= scaled.size
        if is_tabled:
            for code in range(scaled.size):
                scaled[code] = np.float32(largest * table[code])
        for column in range(unit * width, (unit + 1) * width):
            line, out = codes[column], values[column]
            if is_tabled:
                for i in range(n_rows):
                    out[i] = scaled[line[i]]
            else:
                for i in range(n_rows):
                    out[i] = np.float32(largest * table[line[i]])
