"""k bits by quantiles: as many values in each code as in the next."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import ALL, register
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.floats import ROUNDING, TINIEST, as_cells, as_numbers, look_up_cells
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.codecs.raw import Raw
from mistique.codecs.threads import scratch
from mistique.kernels import kbit as kernels
from mistique.schema import ColumnType

_KEPT, _CODED = 0, 1
_HEADER = "<BBHdd"  # kind, bits, codes, half of the widest range, largest magnitude
# Bits below the top 16 of a float32 that a value of each type can have.
_LOW_BITS = {"float16": 0xE000, "bfloat16": 0, "float32": 0xFFFF, "float64": 0xFFFF}
_NEGATIVE, _INF = 0x8000, 0x7F80
# Values of a chunk that its quantiles are taken from: their ranks are off by 0.5% of the chunk at most, mostly.
_COUNTED = 8192


@register
@dataclass(frozen=True)
class KBit:
    """Lossy: `bits` a value, one code for each quantile of a chunk.

    Parameters
    ----------
    bits : int, default 8
        1 to 8.

    Notes
    -----
    Quantiles come from a histogram over the top 16 bits of each value as a float32 (0.8% wide), filled in one pass from
    about 8,192 values of the chunk; a bin is never cut, so codes can be fewer than ``2**bits``. A code stands for the
    middle between the least and the largest number that its bins can hold; the bound is half of the widest such range,
    rounding added. Zero (and what is below 2**-133), NaN and the infinities have codes of their own, beside the
    ``2**bits`` of the numbers (251 at 8 bits). A range never spans zero, so signs are kept; -0.0 comes back as 0.0; a
    constant comes back within 0.4%. A chunk with float64 beyond float32's range is kept exactly (bound 0). The
    paper's quantiles (3.2 of doi:10.1145/3183713.3196934) are worse for a compressor and for large values than
    `mistique.codecs.Power` (ADR 8). Held by ``tests/codecs/test_kbit.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> float32 = ColumnType("float32", "<f4")
    >>> payload = KBit(bits=2).encode(np.array([[0.0, 1, 2, 3, 4, 5, 6, np.inf]], np.float32), float32)
    >>> KBit(bits=2).decode(payload, (1, 8), float32).round(1)
    array([[0. , 1.5, 1.5, 3. , 4. , 5.5, 5.5, inf]], dtype=float32)
    >>> KBit(bits=9)
    Traceback (most recent call last):
    ...
    ValueError: bits of the kbit codec: expected 1 to 8, got 9
    """

    bits: int = 8

    name: ClassVar[str] = "kbit"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bits not in range(1, 9):
            raise ValueError(f"bits of the kbit codec: expected 1 to 8, got {self.bits!r}")

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "bits": self.bits}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """Header, representatives, codes."""
        numbers = as_numbers(values, column_type)
        if numbers.dtype == np.float64:
            with np.errstate(over="ignore", invalid="ignore"):
                narrow = numbers.astype(np.float32)
            if (np.isfinite(numbers) & ~np.isfinite(narrow)).any():
                return joined(struct.pack(_HEADER, _KEPT, self.bits, 0, 0.0, 0.0), Raw().encode(values, column_type))
            numbers = narrow
        patterns = np.ascontiguousarray(numbers).reshape(-1).view(np.uint32)
        counts, is_there = _counted(patterns)
        if is_there[_INF] or is_there[_INF | _NEGATIVE]:
            # NaN of a small payload begins like infinity.
            patterns = np.where(np.isnan(numbers), np.float32(np.nan), numbers).reshape(-1).view(np.uint32)
            counts, is_there = _counted(patterns)
        table, representatives, error = self._quantiles(counts, is_there, _LOW_BITS[column_type.dtype])
        largest = np.abs(representatives[np.isfinite(representatives)]).max() + error
        codes = np.empty(values.shape, np.uint8)
        kernels.encode_tops(patterns, table, codes.reshape(-1))
        head = struct.pack(_HEADER, _CODED, self.bits, len(representatives), error, largest)
        return joined(head, representatives.astype("<f8").tobytes(), encode_codes(codes))

    def _quantiles(
        self, counts: np.ndarray, is_there: np.ndarray, low_bits: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """The table from top bits to codes, what codes stand for, and the largest distance between the two."""
        tops = np.flatnonzero(is_there)
        table = scratch("kbit table", 1 << 16, np.uint8)
        magnitudes = tops & (_NEGATIVE - 1)
        is_special = (magnitudes >= _INF) | (magnitudes == 0)
        # From the most negative to the largest: negative floats are ordered backwards.
        numbers = tops[~is_special]
        order = np.argsort(np.where(numbers & _NEGATIVE, -(numbers & (_NEGATIVE - 1)), numbers), kind="stable")
        numbers = numbers[order]
        low, high = _bin_ends(numbers, low_bits)
        # Bins that the counted values do not have weigh next to nothing, but have a code.
        each = counts[numbers] + 1e-6
        weights = np.cumsum(each)
        n_codes = min(2**self.bits, 251)
        middle_ranks = weights - each / 2
        groups = (middle_ranks * n_codes / weights[-1]).astype(np.int64) if numbers.size else np.empty(0, np.int64)
        # A range across zero would be as wide as both sides: codes do not span it.
        groups = groups + np.where(low >= 0, 256, 0)
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        lows, highs = low[starts], np.maximum.reduceat(high, starts) if starts.size else high
        middles = lows / 2 + highs / 2
        representatives = np.concatenate([[0.0, np.nan, np.inf, -np.inf], middles])
        table[numbers] = np.repeat(np.arange(starts.size), np.diff(np.append(starts, numbers.size))) + 4
        special = tops[is_special]
        top_magnitudes = special & (_NEGATIVE - 1)
        infinite = np.where(special & _NEGATIVE, 3, 2)
        table[special] = np.where(top_magnitudes == 0, 0, np.where(top_magnitudes == _INF, infinite, 1))
        tiny = _bin_ends(np.array([0]), low_bits)[1][0] if is_there[0] or is_there[_NEGATIVE] else 0.0
        error = max(float((highs - lows).max(initial=0)) / 2, tiny)
        return table, representatives, error

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Values within the bound."""
        return self.decode_part(payload, shape, column_type, columns=ALL, rows=ALL)

    def decode_part(
        self,
        payload: np.ndarray,
        shape: tuple[int, int],
        column_type: ColumnType,
        *,
        columns: slice | np.ndarray,
        rows: slice | np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Values of some columns and rows: codes are decoded up to the last of the columns, in parts with such rows."""
        reader = PayloadReader(payload)
        kind, n_codes, _, _ = self._header(reader)
        if kind == _KEPT:
            return Raw().decode(reader.rest(), shape, column_type)[columns][:, rows]
        table = np.frombuffer(reader.take(8 * n_codes).tobytes(), "<f8")
        codes = decode_codes(reader, shape, columns=columns, rows=rows)
        return look_up_cells(codes, table, column_type, out=out)

    def codes_of(self, payload: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, bytes] | None:
        """Codes and representatives of a chunk; None for one that is kept exactly."""
        reader = PayloadReader(payload)
        kind, n_codes, _, _ = self._header(reader)
        if kind == _KEPT:
            return None
        head = reader.take(8 * n_codes).tobytes()
        return decode_codes(reader, shape), head

    def tables_of(self, heads: Sequence[bytes], *, column: int, n_columns: int, column_type: ColumnType) -> np.ndarray:
        """The representatives, which all columns of a chunk share."""
        tables = np.zeros((len(heads), 256))
        for head, table in zip(heads, tables, strict=True):
            if len(head) % 8 or len(head) > 8 * 256:
                raise damaged("up to 256 representatives", f"{len(head)} bytes")
            table[: len(head) // 8] = np.frombuffer(head, "<f8")
        return as_cells(tables, column_type)

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """Half of the widest range, plus the roundings to float32 and to the type of the column."""
        kind, _, error, largest = self._header(PayloadReader(payload))
        if kind == _KEPT:
            return 0.0
        rounding = largest * (ROUNDING["float32"] + ROUNDING[column_type.dtype])
        return float(error + rounding + TINIEST["float32"] + TINIEST[column_type.dtype])

    def _header(self, reader: PayloadReader) -> tuple[int, int, float, float]:
        kind, bits, n_codes, error, largest = reader.unpack(_HEADER)
        if kind > _CODED or bits != self.bits or n_codes > 256 or not (error >= 0 and largest >= 0):
            raise damaged(f"a chunk of {self.bits} bits", (kind, bits, n_codes, error))
        return kind, n_codes, error, largest


def _counted(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts, is_there = scratch("kbit counts", 1 << 16, np.int64), scratch("kbit bins", 1 << 16, np.uint8)
    counts[:] = 0
    is_there[:] = 0
    kernels.count_tops(patterns, max(patterns.size // _COUNTED, 1), is_there, counts)
    return counts, is_there


def _bin_ends(tops: np.ndarray, low_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest number, in float64, that begin with these 16 bits."""
    near = (tops.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    far = (tops.astype(np.uint32) << np.uint32(16) | np.uint32(low_bits)).view(np.float32).astype(np.float64)
    return np.minimum(near, far), np.maximum(near, far)
