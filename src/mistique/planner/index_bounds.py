"""Partitions of rows by the values of a column, with the bounds of each: what an index keeps where values do not fit.

After DeepEverest, doi 10.14778/3485450.3485460: its NPI are the partitions, its MAI the listed rows. Its partitions
hold equally many rows, so the few largest values share one that is wide; here they are about equally wide, as many as
their codes have bits for. A value that comes up often, such as the zero of ReLU, has a partition of its own, whose
bounds are one number and leave nothing to look up.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import ceil

import numpy as np

from mistique.codecs import stored_form, zstd
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.planner.index_layout import IndexPlaces, payloads_of, spans_of
from mistique.planner.question import steps_of
from mistique.planner.values import array_places
from mistique.schema import Intermediate
from mistique.storage.segments import SegmentReader

# Of a value, codes, edges and listed values together, and what a column has besides: the table of its codes, its place
# in the segment. The share of an index, 0.2, is 6.4 bits.
_BITS, _BITS_OF_COLUMN = 6.25, 2500
_MOST_PARTITIONS = 240
_FEWEST_PARTITIONS = 16
# A value in so many of a hundred rows is listed as one that comes up often.
_OFTEN = 1 / 32
# Of the rows, at either end, that are listed with their values.
_LISTED_SHARE = 0.005
_LISTED = 255
# Partitions of equal width but for this share, in which they hold equally many rows: outliers leave some for the rest.
_BY_COUNT = 0.05
# Edges lie on a grid between the smallest and the largest value.
_GRID = 2**16 - 1
_MAX_NBYTES = 2**30


@dataclass(frozen=True, eq=False)
class _Partitions:
    """Of a column: edges on the grid, and values that have a partition of their own, or are listed."""

    ends: np.ndarray  # the smallest and the largest value that lie between edges; NaN: nothing is known
    edges: np.ndarray  # uint16, sorted
    often: np.ndarray
    listed: np.ndarray

    @property
    def n_numbers(self) -> int:
        return 2 + len(self.often) + len(self.listed)


def pack_bounds(columns: np.ndarray) -> np.ndarray:
    """Columns of values as one payload of partitions, bounds and listed values.

    Parameters
    ----------
    columns : ndarray of shape (n_positions, n_rows), float32 or float64
        Of a unit.
    """
    codes = np.zeros(columns.shape, np.uint8)
    parts = [_partition(values, of_column) for values, of_column in zip(columns, codes, strict=True)]
    sizes = [size for part in parts for size in (len(part.edges), len(part.often))]
    numbers = np.concatenate([numbers for part in parts for numbers in (part.ends, part.often, part.listed)])
    edges = np.concatenate([np.diff(part.edges, prepend=np.uint16(0)) for part in parts])
    content = numbers.astype(f"<f{columns.itemsize}").tobytes() + edges.astype("<u2").tobytes()
    packed = zstd.compress(content)
    head = struct.pack(f"<BII{len(sizes)}B", columns.itemsize, numbers.size, len(packed), *sizes)
    return joined(head, packed, encode_codes(codes))


def _partition(values: np.ndarray, codes: np.ndarray) -> _Partitions:
    """Write the partition of each row, and give what they stand for."""
    none, no_edges = values[:0], np.empty(0, np.uint16)
    with np.errstate(over="ignore", invalid="ignore"):
        is_bounded = np.isfinite(values).all() and np.isfinite(2 * values.max() - 2 * values.min())
    if not is_bounded:
        codes[:] = 0  # of which nothing is known
        return _Partitions(np.full(2, np.nan, values.dtype), no_edges, none, none)
    ordered = np.sort(values)
    step = max(int(_OFTEN * len(values)), 1)
    often = np.unique(ordered[step:][ordered[step:] == ordered[:-step]]) if len(values) > 1 / _OFTEN else none
    n_listed = ceil(_LISTED_SHARE * len(values))
    at_ends = np.argpartition(values, [n_listed - 1, len(values) - n_listed])
    at_ends = np.union1d(at_ends[:n_listed], at_ends[-n_listed:])
    at_ends = at_ends[~np.isin(values[at_ends], often)]
    codes[at_ends] = _LISTED
    is_rest = codes != _LISTED
    for number, value in enumerate(often):
        alike = values == value
        codes[alike] = _LISTED - 1 - number
        is_rest &= ~alike
    rest = values[is_rest]
    if not len(rest):
        return _Partitions(np.zeros(2, values.dtype), no_edges, often, values[at_ends])
    counts = np.array([len(at_ends), *((ordered == value).sum() for value in often)])
    ends = np.array([rest.min(), rest.max()])
    edges = _edges_of(np.sort(rest), ends, counts, len(values), values.itemsize)
    codes[is_rest] = np.searchsorted(_on_grid(ends, edges), rest, side="right")
    return _Partitions(ends, edges, often, values[at_ends])


def _edges_of(ordered: np.ndarray, ends: np.ndarray, counts: np.ndarray, n_rows: int, itemsize: int) -> np.ndarray:
    """The inner edges of as many partitions as there are bits for; `counts` are of the codes that are known."""
    wide = ordered.astype(np.float64)
    width = max(wide[-1] - wide[0], np.finfo(np.float64).tiny)
    share = np.linspace(0.0, 1.0, len(wide))
    order = _BY_COUNT * share + (1 - _BY_COUNT) * (wide - wide[0]) / width
    n_partitions = _MOST_PARTITIONS
    while True:
        cuts = np.interp(np.arange(1, n_partitions) / n_partitions, order, wide)
        edges = np.unique(np.rint((cuts - wide[0]) / width * _GRID).astype(np.uint16))
        held = np.diff(np.searchsorted(wide, _on_grid(ends, edges)), prepend=0, append=len(wide))
        every = np.concatenate([held, counts])
        every = every[every > 0]
        bits = every @ np.log2(n_rows / every) + 16 * len(edges) + 8 * itemsize * counts[0]
        if bits + _BITS_OF_COLUMN <= _BITS * n_rows or n_partitions <= _FEWEST_PARTITIONS:
            return edges
        n_partitions = max(n_partitions * 7 // 8, _FEWEST_PARTITIONS)


def _on_grid(ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Edges as values, float64."""
    low, high = ends.astype(np.float64)
    return np.asarray(low + (high - low) * (edges / _GRID))


def unpack_bounds(payload: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bounds of each value, float64, of what `pack_bounds` made.

    Raises
    ------
    ChunkCorruptError
    """
    reader = PayloadReader(payload)
    width, n_numbers, n_packed = reader.unpack("<BII")
    sizes = reader.unpack(f"<{2 * shape[0]}B")
    n_edges, n_often = sizes[::2], sizes[1::2]
    least = 2 * shape[0] + sum(n_often)
    if width not in (4, 8) or not least <= n_numbers <= least + shape[0] * shape[1]:
        raise damaged("bounds and listed values", f"{n_numbers} of {width} bytes")
    nbytes = n_numbers * width + 2 * sum(n_edges)
    if nbytes > _MAX_NBYTES or max(map(sum, zip(n_edges, n_often, strict=True))) > _LISTED - 1:
        raise damaged(f"at most {_MAX_NBYTES} bytes", nbytes)
    content = zstd.decompress(reader.take(n_packed), nbytes)
    numbers = content[: n_numbers * width].view(f"<f{width}").astype(np.float64)
    steps = content[n_numbers * width :].view("<u2")
    codes = decode_codes(reader, shape)
    lower, upper = np.empty(shape), np.empty(shape)
    at = edge = 0
    for column, of_column in enumerate(codes):
        ends, often = numbers[at : at + 2], numbers[at + 2 : at + 2 + n_often[column]]
        at += 2 + len(often)
        edges = np.cumsum(steps[edge : edge + n_edges[column]], dtype=np.uint16)
        edge += len(edges)
        tables = np.full((2, 256), np.nan)
        inner = _on_grid(ends, edges)
        tables[0, : len(edges) + 1] = np.concatenate([ends[:1], inner])
        tables[1, : len(edges) + 1] = np.concatenate([inner, ends[1:]])
        tables[:, _LISTED - len(often) : _LISTED] = often[::-1]
        lower[column], upper[column] = tables[0].take(of_column), tables[1].take(of_column)
        listed = np.flatnonzero(of_column == _LISTED)
        values = numbers[at : at + len(listed)]
        if len(values) != len(listed):
            raise damaged(f"{len(listed)} listed values", len(values))
        lower[column, listed] = upper[column, listed] = values
        at += len(listed)
    return lower, upper


def read_bounds(
    segments: SegmentReader, places: IndexPlaces, node: Intermediate, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bounds of some columns in all rows, float64, shaped as their values are.

    Parameters
    ----------
    segments : SegmentReader
    places : IndexPlaces
    node : Intermediate
        As it is stored.
    columns : ndarray of int64, sorted

    Returns
    -------
    tuple of ndarray of shape (n_rows, n_positions, n_units) or (n_rows, n_columns)
        NaN: of a column that holds NaN or an infinity nothing is known.

    Raises
    ------
    ChunkCorruptError
    """
    stored = stored_form(node)
    units, positions = np.divmod(columns, stored.positions)
    shape, order = array_places(stored, columns)
    lower, upper = np.empty((stored.n_rows, len(columns))), np.empty((stored.n_rows, len(columns)))
    wanted = steps_of(columns, stored.positions).tolist()
    for span, (low, high) in enumerate(spans_of(stored)):
        payloads = payloads_of(segments, places, span, wanted)
        for unit in wanted:
            here = np.flatnonzero(units == unit)
            for out, found in zip(
                (lower, upper), unpack_bounds(payloads[unit], (stored.positions, high - low)), strict=True
            ):
                out[low:high, order[here]] = found[positions[here]].T
    return lower.reshape(-1, *shape), upper.reshape(-1, *shape)
