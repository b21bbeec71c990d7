"""k bits, uniform in the square root of the value: small errors where most activations lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import register
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.floats import ROUNDING, as_numbers, look_up_cells
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.kernels import power as kernels
from mistique.schema import ColumnType

# float32 arithmetic moves the place of a rounding by at most 3 * 2**-24 of n levels, n up to 252: 4.5e-5 of a level.
_ARITHMETIC = 1.0 + 1e-4
_HEADER = "<BBd"
_INF_PATTERN, _NEGATIVE_ZERO_PATTERN = 0x7F800000, 0x80000000


@register
@dataclass(frozen=True)
class Power:
    """Lossy: `bits` a value, uniform in ``sqrt(|value| / largest)``, zero and sign kept, a scale for each chunk.

    Parameters
    ----------
    bits : int, default 5
        3 to 8.
    smallest : bool, default False
        A fifth fewer bytes by an entropy stage with context, at five times the time of encoding and decoding.

    Notes
    -----
    With ``n`` levels and ``x = sqrt(|value| / largest)`` in [0, 1], the code is ``round(n x)``, at least 1 for a
    value that is not zero. So ``|x - x'| <= 1 / (2 n)``, or ``x' = 1 / n`` for the smallest, and the absolute
    error is at most ``largest * |x - x'| * (x + x') <= largest / n``. ``n`` is ``2**bits - 1``, about half of
    that in a chunk with negative values. NaN and the infinities have codes of their own and come back as they
    were, NaN without its payload; -0.0 comes back as 0.0; denormals are numbers like others. A constant comes back
    exactly. Held by ``tests/codecs/test_power.py``; its bytes and speed are in ADR 8.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> float32 = ColumnType("float32", "<f4")
    >>> payload = Power().encode(np.array([[0.0, 0.01, 0.5, 1.0]], np.float32), float32)
    >>> Power().decode(payload, (1, 4), float32).round(3)
    array([[0.   , 0.009, 0.504, 1.   ]], dtype=float32)
    >>> round(Power().max_abs_error(payload, float32), 4)
    0.0323
    >>> Power(bits=1)
    Traceback (most recent call last):
    ...
    ValueError: bits of the power codec: expected 3 to 8, got 1
    """

    bits: int = 5
    smallest: bool = False

    name: ClassVar[str] = "power"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bits not in range(3, 9):
            raise ValueError(f"bits of the power codec: expected 3 to 8, got {self.bits!r}")
        if not isinstance(self.smallest, bool):
            raise ValueError(f"smallest of the power codec: expected True or False, got {self.smallest!r}")

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "bits": self.bits, "smallest": self.smallest}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float

    def n_levels(self, has_negative: bool) -> int:
        """Codes on one side of zero. At 8 bits three codes stay free for NaN and the infinities."""
        codes = min(2**self.bits - 1, kernels.NEGATIVE_INF_CODE - 1)
        return int(codes // 2 if has_negative else codes)

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """Header (bits, whether any value is negative, the largest magnitude) and codes."""
        codes, largest, has_negative = self.codes(values, column_type)
        return joined(
            struct.pack(_HEADER, self.bits, has_negative, largest), encode_codes(codes, is_smallest=self.smallest)
        )

    def codes(self, values: np.ndarray, column_type: ColumnType) -> tuple[np.ndarray, float, bool]:
        """Codes before the entropy stage, the largest magnitude, and whether any value is negative."""
        flat = np.ascontiguousarray(as_numbers(values, column_type)).reshape(-1)
        codes = np.empty(values.shape, np.uint8)
        if flat.dtype == np.float32:
            patterns = np.zeros(2, np.uint32)
            kernels.largest_patterns(flat.view(np.uint32), patterns)
            largest, has_negative = float(patterns[:1].view(np.float32)[0]), patterns[1] > _NEGATIVE_ZERO_PATTERN
            n_levels = self.n_levels(has_negative)
            # Chunks with NaN or inf, of zeros, or so small that the scale has no float32, go the long way.
            if patterns[0] < _INF_PATTERN and largest > 1e-30:
                scale = np.float32(n_levels**2 / largest)
                if has_negative:
                    kernels.encode_power_signed(flat, scale, np.int32(n_levels), codes.reshape(-1))
                else:
                    kernels.encode_power_positive(flat, scale, codes.reshape(-1))
                return codes, largest, bool(has_negative)
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            flat = flat.astype(np.float64, copy=False)
        found = np.zeros(2)
        kernels.value_range(flat, found)
        largest, has_negative = float(found[0]), bool(found[1])
        n_levels = self.n_levels(has_negative)
        kernels.encode_power(flat, largest, n_levels, n_levels if has_negative else 0, codes.reshape(-1))
        return codes, largest, has_negative

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Values within the bound."""
        reader = PayloadReader(payload)
        largest, has_negative = self._header(reader)
        n_levels = self.n_levels(has_negative)
        table = np.zeros(256)
        magnitudes = largest * (np.arange(1, n_levels + 1) / n_levels) ** 2
        table[1 : n_levels + 1] = magnitudes
        if has_negative:
            table[n_levels + 1 : 2 * n_levels + 1] = -magnitudes
        table[[kernels.NAN_CODE, kernels.POSITIVE_INF_CODE, kernels.NEGATIVE_INF_CODE]] = np.nan, np.inf, -np.inf
        return look_up_cells(decode_codes(reader, shape), table, column_type)

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """``largest / n``, plus the rounding to the type of the column."""
        largest, has_negative = self._header(PayloadReader(payload))
        return float(largest * (_ARITHMETIC / self.n_levels(has_negative) + ROUNDING[column_type.dtype]))

    def _header(self, reader: PayloadReader) -> tuple[float, bool]:
        bits, has_negative, largest = reader.unpack(_HEADER)
        if bits != self.bits or has_negative > 1 or not (isfinite(largest) and largest >= 0):
            raise damaged(f"a chunk of {self.bits} bits", (bits, has_negative, largest))
        return largest, bool(has_negative)
