"""One bit a value: whether it is among the largest of its unit."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, prod
from typing import Any, ClassVar

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.codec import Codec, register
from mistique.codecs.floats import as_cells, as_numbers
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.schema import ColumnType

_HEADER = "<II"


@register
@dataclass(frozen=True)
class Threshold:
    """Lossy: 1.0 where a value is above the threshold of its unit, else 0.0.

    Parameters
    ----------
    alpha : float, default 0.005
        At most this share of a unit's values is above its threshold.
    positions : int, optional
        Columns of one unit: each run of so many columns, from the first of the chunk on, has a threshold of its own
        (the last may have fewer). None: those of the layer, set when it is captured; of a table, or of values that are
        encoded by hand, 1: every column is a unit.

    Notes
    -----
    NetDissect's top quantile (doi:10.1109/CVPR.2017.354), over all positions of a unit, but of each row block apart, as
    rows are encoded as they come: 1,024 rows, fewer of wide layers. NetDissect's own is over all images at once: for
    that, keep the values, by `Power` for example, and cut them when they are read.

    What comes back is an answer to a question and no value: its error as a value has no bound, and `max_abs_error`
    says infinity. The thresholds stay
    in the payload (`thresholds`), so that maps of other resolutions can be compared with the same. A value that
    equals its threshold is not above it, so a constant has none; NaN is above nothing and is left out of the
    quantile; the infinities, denormals and -0.0 are numbers like others. A unit without a number has the threshold
    infinity. Held by ``tests/codecs/test_threshold.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> float32, codec = ColumnType("float32", "<f4"), Threshold(alpha=0.25)
    >>> payload = codec.encode(np.array([[1, 5, 2, 3]], np.float32), float32)
    >>> codec.decode(payload, (1, 4), float32), codec.thresholds(payload)
    (array([[0., 1., 0., 0.]], dtype=float32), array([3.]))
    >>> Threshold(alpha=2)
    Traceback (most recent call last):
    ...
    ValueError: alpha of the threshold codec: expected a share between 0 and 1, got 2
    """

    alpha: float = 0.005
    positions: int | None = None

    name: ClassVar[str] = "threshold"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha of the threshold codec: expected a share between 0 and 1, got {self.alpha!r}")
        if self.positions is not None and not (isinstance(self.positions, int) and self.positions >= 1):
            raise ValueError(f"positions of the threshold codec: expected a number of columns, got {self.positions!r}")

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "alpha": self.alpha, "positions": self.positions}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float

    def for_shape(self, shape: tuple[int, ...]) -> Codec:
        """With the positions of a unit in rows of that shape, unless it was given others."""
        return self if self.positions is not None else replace(self, positions=prod(shape[:-1]))

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """Thresholds and bits."""
        numbers, positions = as_numbers(values, column_type), self.positions or 1
        bits = np.zeros(values.shape, bool)
        thresholds = []
        for first in range(0, values.shape[0], positions):
            unit = numbers[first : first + positions]
            thresholds.append(_top(unit[~np.isnan(unit)], self.alpha))
            np.greater(unit, thresholds[-1], out=bits[first : first + positions])
        return _payload(thresholds, bits)

    def encode_block(
        self, pieces: Sequence[np.ndarray], column_type: ColumnType, *, group_columns: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]] | None:
        """Chunks of a block of a layer, each unit with one threshold, in however many chunks it lies."""
        n_positions, n_units = pieces[0].shape[1:]
        if (self.positions or n_positions) != n_positions:
            return None
        return self._encode_units(pieces, column_type, group_columns, n_positions, n_units)

    def _encode_units(
        self, pieces: Sequence[np.ndarray], column_type: ColumnType, group_columns: int, n_positions: int, n_units: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        units = as_numbers(np.concatenate([piece.transpose(2, 1, 0) for piece in pieces], axis=2), column_type)
        thresholds = [_top(unit[~np.isnan(unit)], self.alpha) for unit in units]
        bits = np.empty(units.shape, bool)
        for unit, threshold, marks in zip(units, thresholds, bits, strict=True):
            np.greater(unit, threshold, out=marks)
        columns = bits.reshape(n_units * n_positions, -1)
        for first in range(0, len(columns), group_columns):
            chunk = columns[first : first + group_columns]
            last = first + len(chunk) - 1
            yield chunk.shape, _payload(thresholds[first // n_positions : last // n_positions + 1], chunk)

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """1.0 and 0.0, in the cells of the column."""
        reader = PayloadReader(payload)
        n_thresholds, n_cells = reader.unpack(_HEADER)
        if n_cells != shape[0] * shape[1]:
            raise damaged(f"{shape[0] * shape[1]} bits", n_cells)
        reader.take(8 * n_thresholds)
        bits = np.unpackbits(zstd.decompress(reader.rest(), -(-n_cells // 8)), count=n_cells)
        return as_cells(bits.reshape(shape).astype(np.float32), column_type)

    def thresholds(self, payload: np.ndarray) -> np.ndarray:
        """The threshold of each unit that has columns in a chunk, in their order, float64."""
        reader = PayloadReader(payload)
        n_thresholds, _ = reader.unpack(_HEADER)
        return np.frombuffer(reader.take(8 * n_thresholds).tobytes(), "<f8")

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """Infinity: bits are no values."""
        return inf


def _payload(thresholds: Sequence[float], bits: np.ndarray) -> np.ndarray:
    head = struct.pack(_HEADER, len(thresholds), bits.size)
    return joined(head, np.array(thresholds, "<f8").tobytes(), zstd.compress(np.packbits(bits)))


def _top(numbers: np.ndarray, alpha: float) -> float:
    """The least number that at most a share `alpha` of them is above."""
    if not numbers.size:
        return inf
    rank = ceil(numbers.size * (1 - alpha)) - 1
    return float(np.partition(numbers, rank, axis=None)[rank])
