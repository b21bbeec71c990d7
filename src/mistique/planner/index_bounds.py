"""Partitions of rows by the values of a column, with the bounds of each: what an index keeps where values do not fit.

After DeepEverest, doi 10.14778/3485450.3485460: its NPI are the partitions, its MAI the listed rows. Its partitions
hold equally many rows whatever their values are; here a value that comes up often, such as the zero of ReLU, has a
partition of its own, whose bounds are one number and leave nothing to look up.
"""

from __future__ import annotations

import struct
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

# Five bits for each row, two numbers for each partition.
_N_PARTITIONS = 32
# Of the rows, at either end, that are listed with their values: two times 32 bits for a hundredth of them.
_LISTED_SHARE = 0.01
_LISTED = 255
_MAX_NBYTES = 2**30


def pack_bounds(columns: np.ndarray) -> np.ndarray:
    """Columns of values as one payload of partitions, bounds and listed values.

    Parameters
    ----------
    columns : ndarray of shape (n_positions, n_rows), float32 or float64
        Of a unit.
    """
    codes = np.zeros(columns.shape, np.uint8)
    tables, listed = [], []
    for values, of_column in zip(columns, codes, strict=True):
        bounds, at = _partition(values, of_column)
        tables.append(bounds)
        listed.append(values[at])
    sizes = [len(bounds) for bounds in tables]
    numbers = np.concatenate([*(bounds.reshape(-1) for bounds in tables), *listed])
    packed = zstd.compress(numbers.astype(f"<f{columns.itemsize}"))
    head = struct.pack(f"<BII{len(sizes)}B", columns.itemsize, numbers.size, len(packed), *sizes)
    return joined(head, packed, encode_codes(codes))


def _partition(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write the partition of each row, and give the bounds of each, (n_partitions, 2), and the rows that are listed."""
    if not np.isfinite(values).all():
        codes[:] = 0  # of which nothing is known
        return np.full((1, 2), np.nan, values.dtype), np.empty(0, np.int64)
    ordered = np.sort(values)
    at = np.linspace(0, len(values) - 1, _N_PARTITIONS + 1).astype(np.int64)
    often = np.unique(ordered[at][1:][np.diff(ordered[at]) == 0]) if len(values) > _N_PARTITIONS else ordered[:0]
    rest = ordered[~np.isin(ordered, often)]
    n_cuts = max(_N_PARTITIONS - 2 * len(often), 1)
    cuts = rest[np.linspace(0, len(rest) - 1, n_cuts + 1).astype(np.int64)[1:]] if len(rest) else rest
    edges = np.unique(np.concatenate([cuts, often, np.nextafter(often, np.inf)]))
    codes[:] = np.searchsorted(edges, values, side="right")
    n_listed = ceil(_LISTED_SHARE * len(values))
    ends = np.argpartition(values, [n_listed - 1, len(values) - n_listed])
    listed = np.unique(np.concatenate([ends[:n_listed], ends[-n_listed:]]))
    listed = listed[~np.isin(values[listed], often)]
    codes[listed] = _LISTED
    # Of the others alone: the largest value of all would let any row of the last partition win.
    others = codes != _LISTED
    ordered, held = np.sort(values[others]), np.sort(codes[others])
    starts = np.flatnonzero(np.diff(held, prepend=_LISTED))
    codes[others] = np.searchsorted(held[starts], codes[others])
    ends = np.append(starts[1:], len(held))[: len(starts)] - 1
    bounds = np.stack([ordered[starts], ordered[ends]], axis=1)
    return bounds, listed


def unpack_bounds(payload: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bounds of each value, float64, of what `pack_bounds` made.

    Raises
    ------
    ChunkCorruptError
    """
    reader = PayloadReader(payload)
    width, n_numbers, n_packed = reader.unpack("<BII")
    sizes = reader.unpack(f"<{shape[0]}B")
    if width not in (4, 8) or not 2 * sum(sizes) <= n_numbers <= 2 * sum(sizes) + shape[0] * shape[1]:
        raise damaged("bounds and listed values", f"{n_numbers} of {width} bytes")
    if n_numbers * width > _MAX_NBYTES:
        raise damaged(f"at most {_MAX_NBYTES} bytes", n_numbers * width)
    numbers = zstd.decompress(reader.take(n_packed), n_numbers * width).view(f"<f{width}").astype(np.float64)
    codes = decode_codes(reader, shape)
    lower, upper = np.empty(shape), np.empty(shape)
    first, at = 0, 2 * sum(sizes)
    for column, (of_column, size) in enumerate(zip(codes, sizes, strict=True)):
        tables = np.full((256, 2), np.nan)
        tables[:size] = numbers[first : first + 2 * size].reshape(size, 2)
        lower[column], upper[column] = tables[of_column].T
        listed = np.flatnonzero(of_column == _LISTED)
        values = numbers[at : at + len(listed)]
        if len(values) != len(listed):
            raise damaged(f"{len(listed)} listed values", len(values))
        lower[column, listed] = upper[column, listed] = values
        first, at = first + 2 * size, at + len(listed)
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
