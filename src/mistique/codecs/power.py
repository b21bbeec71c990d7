"""k bits, uniform in the square root of the value: small errors where most activations lie."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import ALL, register
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.floats import ROUNDING, as_cells, as_numbers, look_up_cells, room_for
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.codecs.power_chunks import PowerChunks
from mistique.codecs.threads import scratch
from mistique.kernels import power as kernels
from mistique.kernels.transpose import turn
from mistique.schema import ColumnType

# float32 arithmetic moves the place of a rounding by at most 3 * 2**-24 of n levels, n up to 252: 4.5e-5 of a level.
_ARITHMETIC = 1.0 + 1e-4
_HEADER, _SCALE = "<BH", "<Bd"
_ONE_SCALE = 0  # in float64, of a chunk; else the number of units, each with its own in float32
_TINY = 1e-30
_INF_PATTERN, _NEGATIVE_ZERO_PATTERN = 0x7F800000, 0x80000000


@register
@dataclass(frozen=True)
class Power:
    """Lossy: `bits` a value, uniform in ``sqrt(|value| / largest)``, zero and sign kept, a scale for each unit.

    The largest magnitude is that of a unit in a row block; of a chunk that is encoded by itself, the chunk's.

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
        """Header (bits, whether any value is negative, the largest magnitude) and codes."""
        codes, largest, has_negative = self.codes(values, column_type)
        head = struct.pack(_HEADER, self.bits, _ONE_SCALE) + struct.pack(_SCALE, has_negative, largest)
        return joined(head, encode_codes(codes))

    def encode_block(
        self, pieces: Sequence[np.ndarray], column_type: ColumnType, *, group_columns: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]] | None:
        """Chunks with a scale for each of their units; None for what is not float32, or not finite, or tiny."""
        _, n_positions, n_units = pieces[0].shape
        is_cut_at_units = group_columns % n_positions == 0 or n_positions % group_columns == 0
        if column_type.dtype != "float32" or not is_cut_at_units:
            return None
        magnitudes, signed = np.zeros(n_units, np.uint32), np.zeros(n_units, np.uint32)
        for piece in pieces:
            kernels.unit_patterns(piece.view(np.uint32), magnitudes, signed)
        largest = magnitudes.view(np.float32)
        # As in `codes`: these go the long way.
        if magnitudes.max() >= _INF_PATTERN or ((largest > 0) & (largest <= _TINY)).any():
            return None
        has_negative = signed > _NEGATIVE_ZERO_PATTERN
        offsets = np.where(has_negative, self.n_levels(True), 0).astype(np.int32)
        levels = np.where(has_negative, self.n_levels(True), self.n_levels(False))
        factors = np.divide(levels.astype(float) ** 2, largest, out=np.zeros(n_units), where=largest > 0)
        return self._chunks(pieces, factors.astype(np.float32), offsets, largest, has_negative, group_columns)

    def _chunks(
        self,
        pieces: Sequence[np.ndarray],
        factors: np.ndarray,
        offsets: np.ndarray,
        largest: np.ndarray,
        has_negative: np.ndarray,
        group_columns: int,
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        _, n_positions, n_units = pieces[0].shape
        n_rows, n_columns = sum(map(len, pieces)), n_positions * n_units
        columns = scratch("columns", n_columns * n_rows, np.uint8).reshape(n_columns, n_rows)
        first_row = 0
        for piece in pieces:
            codes = scratch("codes", piece.size, np.uint8).reshape(piece.shape)
            kernels.encode_power_units(piece, factors, offsets, codes)
            turn(codes.reshape(len(piece), -1), first_row, columns)
            first_row += len(piece)
        # By position and unit as the framework gave them; wanted with units outermost.
        by_unit = columns.reshape(n_positions, n_units, n_rows).transpose(1, 0, 2)
        scales = np.where(has_negative, -largest, largest).astype("<f4")
        for start in range(0, n_columns, group_columns):
            stop = min(start + group_columns, n_columns)
            units = slice(start // n_positions, -(-stop // n_positions))
            positions = slice(0, n_positions) if units.stop - units.start > 1 else slice(start % n_positions, None)
            wanted = by_unit[units, positions].reshape(-1, n_rows)[: stop - start]
            head = struct.pack(_HEADER, self.bits, units.stop - units.start) + scales[units].tobytes()
            payload = joined(head, encode_codes(np.ascontiguousarray(wanted)))
            yield wanted.shape, payload

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
            if patterns[0] < _INF_PATTERN and largest > _TINY:
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
        scales = self._scales(reader)
        codes = decode_codes(reader, shape, columns=columns, rows=rows)
        if shape[0] % len(scales):
            raise damaged(f"units of a chunk of {shape[0]} columns", len(scales))
        if isinstance(columns, np.ndarray):
            scales = scales[columns * len(scales) // shape[0]]
        if column_type.dtype != "float32":
            return look_up_cells(codes, self._tables(scales), column_type, out=out)
        found = room_for(codes.shape, np.float32, out)
        kernels.decode_power(codes, scales, self._unit_tables(), found)
        return found

    def decode_chunks(
        self,
        content: np.ndarray,
        places: np.ndarray,
        shapes: np.ndarray,
        column_type: ColumnType,
        *,
        out: np.ndarray,
        corners: np.ndarray,
    ) -> tuple[np.ndarray, float]:
        """Chunks of float32 with a scale for each unit, as `encode_block` makes them."""
        if column_type.dtype != "float32" or out.dtype != np.float32:
            return np.zeros(len(places), bool), 0.0
        chunks = PowerChunks(content, places, shapes, self.bits)
        is_decoded = chunks.decode(self._unit_tables(), out=out, corners=corners)
        lowest, highest = chunks.scale_range(is_decoded)
        return is_decoded, self._max_abs_error(lowest, highest, column_type)

    def codes_of(self, payload: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, bytes] | None:
        """Codes and header of a chunk."""
        reader = PayloadReader(payload)
        n_bytes = reader.n_left
        self._scales(reader)
        head = payload[: n_bytes - reader.n_left].tobytes()
        return decode_codes(reader, shape), head

    def tables_of(self, heads: Sequence[bytes], *, column: int, n_columns: int, column_type: ColumnType) -> np.ndarray:
        """What codes stand for: by the scale of the unit that a column is of."""
        scales = np.array([self._scale_of(head, column, n_columns) for head in heads])
        return as_cells(self._tables(scales), column_type)

    def _scale_of(self, head: bytes, column: int, n_columns: int) -> float:
        """That of one column's unit, by the header of a chunk."""
        bits, n_units = struct.unpack_from(_HEADER, head) if len(head) > struct.calcsize(_HEADER) else (0, 0)
        if bits == self.bits and n_units and len(head) == struct.calcsize(_HEADER) + 4 * n_units:
            if n_columns % n_units:
                raise damaged(f"units of a chunk of {n_columns} columns", n_units)
            at = struct.calcsize(_HEADER) + 4 * (column * n_units // n_columns)
            scale: float = struct.unpack_from("<f", head, at)[0]
        else:
            reader = PayloadReader(np.frombuffer(head, np.uint8))
            (scale,) = self._scales(reader)[:1]
            reader.end()
        if not isfinite(scale):
            raise damaged("finite scales", scale)
        return scale

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """``largest / n`` of the worst unit, plus the rounding to the type of the column."""
        return self._max_abs_error(*kernels.scale_range(self._scales(PayloadReader(payload))), column_type)

    def _max_abs_error(self, lowest: float, highest: float, column_type: ColumnType) -> float:
        """That of chunks with scales from the lowest to the highest."""
        rounding = ROUNDING[column_type.dtype]
        worst, signed = (_ARITHMETIC / self.n_levels(has_negative) + rounding for has_negative in (False, True))
        return max(0.0, highest * worst, -lowest * signed)

    def _tables(self, scales: np.ndarray) -> np.ndarray:
        """The number of each code, for each scale: its sign says whether there are negative ones."""
        largest = np.where(scales == 0, 1.0, np.abs(scales))  # of zeros it can be anything
        tables: np.ndarray = largest[:, None] * self._unit_tables()[np.signbit(scales).astype(np.intp)]
        return tables

    @lru_cache(maxsize=16)  # noqa: B019  codecs are few, small and equal ones share it
    def _unit_tables(self) -> np.ndarray:
        """The numbers of codes at a scale of one, without negative ones and with."""
        tables = np.zeros((2, 256))
        for has_negative, table in enumerate(tables):
            n_levels = self.n_levels(bool(has_negative))
            squares = (np.arange(1, n_levels + 1) / n_levels) ** 2
            table[1 : n_levels + 1] = squares
            if has_negative:
                table[n_levels + 1 : 2 * n_levels + 1] = -squares
        tables[:, kernels.NEGATIVE_INF_CODE :] = -np.inf, np.inf, np.nan
        return tables

    def _scales(self, reader: PayloadReader) -> np.ndarray:
        """The largest magnitude of each unit, negative where there are negative values."""
        bits, n_units = reader.unpack(_HEADER)
        if bits != self.bits:
            raise damaged(f"a chunk of {self.bits} bits", bits)
        if n_units == _ONE_SCALE:
            has_negative, largest = reader.unpack(_SCALE)
            if has_negative > 1 or not 0 <= largest < inf:
                raise damaged("a largest magnitude", (has_negative, largest))
            return np.array([-largest if has_negative else largest])
        return _scales_of(reader.take(4 * n_units).tobytes())


@lru_cache(maxsize=1024)
def _scales_of(content: bytes) -> np.ndarray:
    """Scales of some units, kept: a chunk is asked for them twice, for its values and for their error."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN, in damaged bytes
        scales = np.frombuffer(content, "<f4").astype(np.float64)
    lowest, highest = kernels.scale_range(scales)
    if not -inf < lowest <= highest < inf:
        raise damaged("finite scales", scales)
    return scales
