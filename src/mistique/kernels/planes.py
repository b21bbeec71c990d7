"""Numbers taken apart into planes of bytes: floats with their exponents by themselves, and integers."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_ONE, _EIGHT, _SIXTEEN, _TWENTY_FOUR, _THIRTY_ONE = (np.uint32(n) for n in (1, 8, 16, 24, 31))


@kernel("boolean(Array(uint32, 1, 'C', readonly=True), uint8[::1])")
def split_exponents(patterns: np.ndarray, exponents: np.ndarray) -> bool:
    """Exponents of float32 bit patterns; whether 0.0 is the only value whose exponent is 0."""
    others = np.uint32(0)
    for i in range(patterns.size):
        pattern = patterns[i]
        exponent = np.uint8(np.uint32(pattern << _ONE) >> _TWENTY_FOUR)
        exponents[i] = exponent
        others |= pattern if exponent == 0 else np.uint32(0)
    return bool(others == 0)


@kernel("int64(Array(uint32, 1, 'C', readonly=True), boolean, uint8[:, ::1])")
def split_rest(patterns: np.ndarray, is_sparse: bool, planes: np.ndarray) -> np.int64:
    """Mantissas, the sign as their lowest bit, in three planes of bytes (3, n + 1), lowest first; how many there are.

    With `is_sparse` those of zeros are left out. No branch: each is written, and the next one over it.
    """
    at = np.int64(0)
    low, middle, high = planes[0], planes[1], planes[2]
    for i in range(patterns.size):
        pattern = patterns[i]
        rotated = np.uint32(pattern << _ONE) | np.uint32(pattern >> _THIRTY_ONE)
        low[at] = np.uint8(rotated)
        middle[at] = np.uint8(rotated >> _EIGHT)
        high[at] = np.uint8(rotated >> _SIXTEEN)
        at += np.int64(not is_sparse or pattern != 0)
    return at


@kernel("void(Array(uint8, 1, 'C', readonly=True), boolean, uint8[:, ::1], uint32[::1])")
def join_planes(exponents: np.ndarray, is_sparse: bool, planes: np.ndarray, patterns: np.ndarray) -> None:
    """Bit patterns from exponents and the planes (3, n + 1) of `split_rest`."""
    at = np.int64(0)
    low, middle, high = planes[0], planes[1], planes[2]
    for i in range(exponents.size):
        exponent = np.uint32(exponents[i])
        rotated = np.uint32(low[at]) | np.uint32(middle[at]) << _EIGHT | np.uint32(high[at]) << _SIXTEEN
        rotated |= exponent << _TWENTY_FOUR
        is_kept = not is_sparse or exponent != 0
        patterns[i] = np.uint32(rotated >> _ONE) | np.uint32(rotated << _THIRTY_ONE) if is_kept else np.uint32(0)
        at += np.int64(is_kept)


@kernel("void(Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1])")
def count_before(exponents: np.ndarray, places: np.ndarray, counts: np.ndarray) -> None:
    """How many exponents before each of some ascending places are not zero."""
    count, at = np.int64(0), np.int64(0)
    for i in range(places.size):
        before = exponents[at : places[i]]
        at = places[i]
        for j in range(before.size):
            count += np.int64(before[j] != 0)
        counts[i] = count


@kernel("void(Array(uint8, 2, 'C', readonly=True), uint64, uint64[::1])")
def join_bytes(planes: np.ndarray, base: np.uint64, numbers: np.ndarray) -> None:
    """Numbers from planes (n_bytes, n) of their bytes, the lowest first, each plus `base`."""
    numbers[:] = base
    for weight in range(planes.shape[0]):
        plane, shift = planes[weight], np.uint64(8 * weight)
        for i in range(numbers.size):
            numbers[i] += np.uint64(plane[i]) << shift
