"""Any bound that is asked for, in the fewest bytes that hold it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import ceil, isfinite, log2
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import register
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.floats import as_cells, as_numbers
from mistique.codecs.lossless_floats import decode_floats, encode_floats
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.codecs.raw import Raw
from mistique.schema import ColumnType

_KEPT, _STEPS, _CUT_FLOATS, _CUT = range(4)
_HEADER, _STEPS_HEADER = "<Bd", "<dd"
_MANTISSA_BITS = {"float32": 23, "float64": 52}


def within(*, relative: float | None = None, absolute: float | None = None) -> Within:
    """The codec that keeps every value within a bound.

    Parameters
    ----------
    relative : float, optional
        ``|stored - value| <= relative * |value|``, for each value, as `rtol` of NumPy alone.
    absolute : float, optional
        ``|stored - value| <= absolute``, as `atol` of NumPy alone. With both, both hold.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> float32, codec = ColumnType("float32", "<f4"), within(absolute=0.1)
    >>> payload = codec.encode(np.array([[0.0, 0.33, 5.0]], np.float32), float32)
    >>> codec.decode(payload, (1, 3), float32).round(2), codec.max_abs_error(payload, float32) <= 0.1
    (array([[0. , 0.4, 5. ]], dtype=float32), True)
    >>> within()
    Traceback (most recent call last):
    ...
    ValueError: the within codec: expected relative= or absolute=, positive numbers, got relative=None, absolute=None
    """
    return Within(relative=relative, absolute=absolute)


@register
@dataclass(frozen=True)
class Within:
    """Lossy, by as much as `within` was told.

    Notes
    -----
    For each chunk the smallest of: steps of ``2 * absolute`` through the entropy stage (up to 256 of them), mantissas
    rounded to the bits that the bound needs, and the values themselves. Each is decoded and held against the bound
    before it is taken, so the bound holds whatever the rounding of floats does; the error that was found stands in the
    payload. NaN, the infinities and -0.0 stay where mantissas are cut; a chunk with NaN or infinities never takes
    steps, and -0.0 becomes 0.0 there. Denormals that a relative bound cannot cut keep their chunk as it is. Held by
    ``tests/codecs/test_within.py``.
    """

    relative: float | None = None
    absolute: float | None = None

    name: ClassVar[str] = "within"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given = [bound for bound in (self.relative, self.absolute) if bound is not None]
        if not given or not all(isfinite(bound) and bound > 0 for bound in given):
            raise ValueError(
                "the within codec: expected relative= or absolute=, positive numbers, got "
                f"relative={self.relative!r}, absolute={self.absolute!r}"
            )

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "relative": self.relative, "absolute": self.absolute}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """The smallest payload that holds the bound."""
        best: bytes | None = None
        for kind, body in self._candidates(values, column_type):
            back = self._decode_body(kind, PayloadReader(np.frombuffer(body, np.uint8)), values.shape, column_type)
            error = self._error(values, back, column_type)
            if error is not None and (best is None or len(body) + 9 < len(best)):
                best = struct.pack(_HEADER, kind, error) + body
        if best is None:
            best = struct.pack(_HEADER, _KEPT, 0.0) + Raw().encode(values, column_type).tobytes()
        return joined(best)

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Values within the bound."""
        reader = PayloadReader(payload)
        kind, _ = self._header(reader)
        return self._decode_body(kind, reader, shape, column_type)

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """The largest error that was found when the chunk was encoded."""
        return self._header(PayloadReader(payload))[1]

    def _header(self, reader: PayloadReader) -> tuple[int, float]:
        kind, error = reader.unpack(_HEADER)
        if kind > _CUT or not error >= 0:
            raise damaged("a kind of 0 to 3 and a bound", (kind, error))
        return kind, error

    def _candidates(self, values: np.ndarray, column_type: ColumnType) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            numbers = as_numbers(values, column_type).astype(np.float64)
        if not numbers.size or not np.isfinite(numbers).any():
            return found
        if self.absolute is not None and np.isfinite(numbers).all():
            least, step = float(numbers.min()), 2 * self.absolute
            # From a multiple of the step, so that zero stays zero.
            first = np.rint(least / step)
            if float(numbers.max()) / step - first < 255:
                codes = np.clip(np.rint(numbers / step) - first, 0, 255).astype(np.uint8)
                found.append((_STEPS, struct.pack(_STEPS_HEADER, first, step) + encode_codes(codes)))
        if column_type.dtype in _MANTISSA_BITS:
            largest = float(np.abs(numbers[np.isfinite(numbers)]).max())
            bound = min(self.relative or 1.0, self.absolute / largest if self.absolute and largest else 1.0)
            n_bits = max(ceil(-log2(bound)) - 1, 0) if bound > 0 else _MANTISSA_BITS[column_type.dtype]
            if n_bits < _MANTISSA_BITS[column_type.dtype]:
                cut = _cut(values, _MANTISSA_BITS[column_type.dtype] - n_bits)
                if column_type.dtype == "float32" and values.size >= 4096:
                    found.append((_CUT_FLOATS, encode_floats(cut)))
                else:
                    found.append((_CUT, Raw().encode(cut, column_type).tobytes()))
        return found

    def _decode_body(
        self, kind: int, reader: PayloadReader, shape: tuple[int, ...], column_type: ColumnType
    ) -> np.ndarray:
        rows_of_columns = (shape[0], shape[1])
        if kind == _STEPS:
            first, step = reader.unpack(_STEPS_HEADER)
            codes = decode_codes(reader, rows_of_columns)
            with np.errstate(over="ignore", invalid="ignore"):
                return as_cells((codes + first) * step, column_type)
        if kind == _CUT_FLOATS and column_type.dtype == "float32":
            return decode_floats(reader, rows_of_columns, np.dtype(column_type.cell))
        return Raw().decode(reader.rest(), rows_of_columns, column_type)

    def _error(self, values: np.ndarray, back: np.ndarray, column_type: ColumnType) -> float | None:
        """The largest error, or None where the bound does not hold or a special value is lost."""
        with np.errstate(invalid="ignore", over="ignore"):
            expected, found = (as_numbers(cells, column_type).astype(np.float64) for cells in (values, back))
            finite = np.isfinite(expected)
            if (np.isfinite(found) != finite).any() or not np.array_equal(
                expected[~finite], found[~finite], equal_nan=True
            ):
                return None
            # A difference of doubles is rounded: a little more than it is on the safe side.
            errors = np.abs(expected[finite] - found[finite]) * (1 + 2.0**-50)
            if self.absolute is not None and (errors > self.absolute).any():
                return None
            if self.relative is not None and (errors > self.relative * np.abs(expected[finite])).any():
                return None
        error = float(errors.max(initial=0.0))
        return error if isfinite(error) else None


def _cut(values: np.ndarray, n_bits: int) -> np.ndarray:
    """Floats without the lowest bits of their mantissas, rounded to the nearest; NaN and the infinities as they are."""
    bits = values.view(f"u{values.itemsize}")
    unit = bits.dtype.type(1 << n_bits)
    rounded = (bits + (unit >> bits.dtype.type(1))) & ~(unit - bits.dtype.type(1))
    return np.where(np.isfinite(values), rounded, bits).view(values.dtype)
