"""Floats of 16 bits: half or a quarter of the bytes, relative errors alike everywhere."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import register
from mistique.codecs.floats import ROUNDING, TINIEST, as_cells, as_numbers, float_dtype
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.codecs.raw import Raw
from mistique.schema import ColumnType

_KEPT, _ROUNDED = 0, 1
_HEADER = "<Bd"


@register
@dataclass(frozen=True)
class LowPrecision:
    """Lossy: each value rounded to a float of 16 bits.

    Parameters
    ----------
    dtype : {"bfloat16", "float16"}, default "bfloat16"
        ``bfloat16`` has the range of float32 and 8 bits of precision, ``float16`` 11 bits up to 65,504.

    Notes
    -----
    To the nearest, ties to even, float64 by way of float32. A chunk with a finite value that would become infinite is
    kept exactly, and so is a chunk of 16-bit floats of any kind: its bound is 0. The bound of others is
    ``largest * 2**-11`` (float16) or ``largest * 2**-8`` (bfloat16) plus half of the least denormal. NaN stays NaN
    (without its payload), the infinities and -0.0 stay, denormals round as the type has them. Held by
    ``tests/codecs/test_low_precision.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> float32, codec = ColumnType("float32", "<f4"), LowPrecision("float16")
    >>> codec.decode(codec.encode(np.array([[0.1, -0.0, 65504]], np.float32), float32), (1, 3), float32)
    array([[ 9.9975586e-02, -0.0000000e+00,  6.5504000e+04]], dtype=float32)
    >>> LowPrecision("float8")
    Traceback (most recent call last):
    ...
    ValueError: dtype of the low_precision codec: expected 'bfloat16' or 'float16', got 'float8'
    """

    dtype: str = "bfloat16"

    name: ClassVar[str] = "low_precision"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.dtype not in ("bfloat16", "float16"):
            raise ValueError(f"dtype of the low_precision codec: expected 'bfloat16' or 'float16', got {self.dtype!r}")

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "dtype": self.dtype}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float

    @property
    def _inner_type(self) -> ColumnType:
        return ColumnType(self.dtype, "<u2")

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """A bound, and the rounded values as the raw codec keeps them; or the values themselves."""
        if values.itemsize > 2:
            with np.errstate(over="ignore", invalid="ignore"):
                numbers = values.astype(np.float32, copy=False)
                rounded = numbers.astype(float_dtype(self.dtype))
                is_finite = np.isfinite(values)
                if np.isfinite(rounded)[is_finite].all():
                    largest = float(np.abs(values[is_finite]).max(initial=0))
                    # float64 rounds twice.
                    error = largest * (ROUNDING[self.dtype] + ROUNDING["float32"]) + TINIEST[self.dtype]
                    head = struct.pack(_HEADER, _ROUNDED, error if largest else 0.0)
                    return joined(head, Raw().encode(rounded.view(np.uint16), self._inner_type))
        return joined(struct.pack(_HEADER, _KEPT, 0.0), Raw().encode(values, column_type))

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Values within the bound."""
        reader = PayloadReader(payload)
        kind, _ = _header(reader)
        if kind == _KEPT:
            return Raw().decode(reader.rest(), shape, column_type)
        return as_cells(as_numbers(Raw().decode(reader.rest(), shape, self._inner_type), self._inner_type), column_type)

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """As the header has it."""
        return _header(PayloadReader(payload))[1]


def _header(reader: PayloadReader) -> tuple[int, float]:
    kind, error = reader.unpack(_HEADER)
    if kind not in (_KEPT, _ROUNDED) or not error >= 0:
        raise damaged("kept or rounded values and a bound", (kind, error))
    return kind, error
