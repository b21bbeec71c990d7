"""k bits, uniform in the square root of the value: small errors where most activations lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import zstandard

from mistique.codecs.codec import register
from mistique.kernels import power as kernels
from mistique.schema import ColumnType

# Numbers between zero and the largest value of a 16-bit float lie this far apart at most, relative to their size;
# half of it is what rounding to that type adds to the error.
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
_ARITHMETIC = 1.0 + 1e-12


@register
@dataclass(frozen=True)
class Power:
    """Lossy: `bits` a value, uniform in ``sqrt(|value| / largest)``, zero and sign kept, a scale for each chunk.

    Parameters
    ----------
    bits : int, default 5
        3 to 8.

    Notes
    -----
    With ``n`` levels and ``x = sqrt(|value| / largest)`` in [0, 1], the code is ``round(n x)``, at least 1 for a
    value that is not zero. So ``|x - x'| <= 1 / (2 n)``, or ``x' = 1 / n`` for the smallest, and the absolute
    error is at most ``largest * |x - x'| * (x + x') <= largest / n``. ``n`` is ``2**bits - 1``, about half of
    that in a chunk with negative values. NaN and the infinities have codes of their own and come back as they
    were; -0.0 comes back as 0.0. Held by ``tests/codecs/test_power.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> float32 = ColumnType("float32", "<f4")
    >>> cells, params = Power().encode(np.array([[0.0, 0.01, 0.5, 1.0]], np.float32), float32)
    >>> Power().decode(cells, params, float32).round(3)
    array([[0.   , 0.009, 0.504, 1.   ]], dtype=float32)
    >>> round(Power().max_abs_error(params[None], float32), 4)
    0.0323
    >>> Power(bits=1)
    Traceback (most recent call last):
    ...
    ValueError: bits of the power codec: expected 3 to 8, got 1
    """

    bits: int = 5

    name: ClassVar[str] = "power"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bits not in range(3, 9):
            raise ValueError(f"bits of the power codec: expected 3 to 8, got {self.bits!r}")

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "bits": self.bits}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float

    def n_levels(self, has_negative: bool) -> int:
        """Codes on one side of zero. At 8 bits three codes stay free for NaN and the infinities."""
        codes = min(2**self.bits - 1, kernels.NEGATIVE_INF_CODE - 1)
        return int(codes // 2 if has_negative else codes)

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """Codes, and the largest magnitude with a flag for negative values."""
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            flat = np.ascontiguousarray(_as_float(values, column_type), np.float64).reshape(-1)
        params = np.zeros(2)
        kernels.value_range(flat, params)
        codes = np.empty(flat.shape, np.uint8)
        n_levels = self.n_levels(bool(params[1]))
        kernels.encode_power(flat, params[0], n_levels, n_levels if params[1] else 0, codes)
        return np.frombuffer(params.tobytes() + zstandard.compress(codes.tobytes(), 1), np.uint8)

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Values within the bound."""
        params = np.frombuffer(payload[:16].tobytes())
        cells = np.frombuffer(zstandard.decompress(payload[16:].tobytes()), np.uint8).reshape(shape)
        table = np.zeros(256)
        has_negative = bool(params[1])
        n_levels = self.n_levels(has_negative)
        magnitudes = params[0] * (np.arange(1, n_levels + 1) / n_levels) ** 2
        table[1 : n_levels + 1] = magnitudes
        if has_negative:
            table[n_levels + 1 : 2 * n_levels + 1] = -magnitudes
        table[[kernels.NAN_CODE, kernels.POSITIVE_INF_CODE, kernels.NEGATIVE_INF_CODE]] = np.nan, np.inf, -np.inf
        values = np.empty(cells.size)
        kernels.decode_power(np.ascontiguousarray(cells).reshape(-1), table, values)
        return _as_cells(values, column_type).reshape(cells.shape)

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """``largest / n`` of the worst chunk, plus the rounding to the type of the column."""
        params = np.frombuffer(payload[:16].tobytes())[None]
        errors = [
            largest * (_ARITHMETIC / self.n_levels(bool(negative)) + _ROUNDING[column_type.dtype])
            for largest, negative in params
        ]
        return float(max(errors))


def _as_float(values: np.ndarray, column_type: ColumnType) -> np.ndarray:
    """Cells as numbers: 16-bit floats are kept as their bits."""
    if column_type.cell == "<u2":
        return values.view(float_dtype(column_type.dtype))
    return values


def _as_cells(values: np.ndarray, column_type: ColumnType) -> np.ndarray:
    numbers = values.astype(float_dtype(column_type.dtype))
    return numbers.view(np.uint16) if column_type.cell == "<u2" else numbers


def float_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a float's name, ml_dtypes' bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype
