"""The power code, a value at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

NAN_CODE, POSITIVE_INF_CODE, NEGATIVE_INF_CODE = 255, 254, 253


def value_range(values: Sequence[float]) -> tuple[float, bool]:
    """The largest finite magnitude, and whether any value is below zero."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return largest, any(v < 0 for v in values)


def n_levels(bits: int, has_negative: bool) -> int:
    """Codes on one side of zero: three of the 256 are taken by NaN and the infinities."""
    n_codes = min(2**bits - 1, 256 - 3 - 1)
    return n_codes // 2 if has_negative else n_codes


def level(value: float, largest: float, bits: int, has_negative: bool) -> float:
    """Where a finite value lies between the levels."""
    return n_levels(bits, has_negative) * math.sqrt(abs(value) / largest)


def encode(values: Sequence[float], bits: int) -> list[int]:
    """The code of each value."""
    largest, has_negative = value_range(values)
    n = n_levels(bits, has_negative)
    codes = []
    for value in values:
        if math.isnan(value):
            codes.append(NAN_CODE)
        elif math.isinf(value):
            codes.append(POSITIVE_INF_CODE if value > 0 else NEGATIVE_INF_CODE)
        elif value == 0:
            codes.append(0)
        else:
            nearest = math.floor(n * math.sqrt(abs(value) / largest) + 0.5)
            level = min(max(nearest, 1), n)
            codes.append(level + n if value < 0 else level)
    return codes


def decode(codes: Sequence[int], bits: int, largest: float, has_negative: bool) -> list[float]:
    """The value of each code."""
    n = n_levels(bits, has_negative)
    specials = {0: 0.0, NAN_CODE: math.nan, POSITIVE_INF_CODE: math.inf, NEGATIVE_INF_CODE: -math.inf}
    values = []
    for code in codes:
        if code in specials:
            values.append(specials[code])
        elif code > n:
            values.append(-largest * ((code - n) / n) ** 2)
        else:
            values.append(largest * (code / n) ** 2)
    return values
