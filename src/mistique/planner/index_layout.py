"""What an index holds of a layer, and where: spans of rows, and of each its heads and its units."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mistique.codecs import stored_form
from mistique.errors import ChunkCorruptError
from mistique.schema import Index, Intermediate
from mistique.storage.references import unpack_references
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitKind

# A stream of codes of one column holds no more.
SPAN_ROWS = 32_768
# Where a chunk holds fewer units, reading one of them decodes little besides: only the largest of its positions are
# worth keeping.
_MIN_UNITS_OF_CHUNK = 4
CODES, CELLS, MAXIMA, BOUNDS = "codes", "cells", "maxima", "bounds"


def index_kind(form: str) -> UnitKind:
    """What the units of an index are, to its segment: bytes that no codec reads."""
    return UnitKind(json.dumps({"form": form, "name": "index"}), "uint8", "|u1", is_table=False)


def keeps_maxima(node: Intermediate) -> bool:
    """Whether an index of a layer keeps the largest of a unit's positions, and not all of them."""
    stored = stored_form(node)
    return stored.positions > 1 and stored.group_columns < _MIN_UNITS_OF_CHUNK * stored.positions


def float32_nbytes(node: Intermediate) -> int:
    """Of all values of a layer as it is stored, were they float32: what the share of an index is counted of."""
    stored = stored_form(node)
    return 4 * stored.n_rows * stored.n_columns


def group_of(stored: Intermediate, unit: int) -> int:
    """The column group that a unit lies in."""
    return unit * stored.positions // stored.group_columns


def spans_of(stored: Intermediate) -> list[tuple[int, int]]:
    """The first row of each span, and the row behind its last."""
    return [(low, min(low + SPAN_ROWS, stored.n_rows)) for low in range(0, stored.n_rows, SPAN_ROWS)]


@dataclass(frozen=True, eq=False)
class IndexPlaces:
    """Where the heads and units of an index lie.

    Parameters
    ----------
    index : Index
        With its references.
    grid : ndarray of shape (n_spans, n_heads + n_units, 3), int64
        Segment, unit, place.
    """

    index: Index
    grid: np.ndarray

    @classmethod
    def of(cls, index: Index, stored: Intermediate) -> IndexPlaces:
        """The places of an index of a layer.

        Raises
        ------
        ChunkCorruptError
            It is no index of that layer.
        """
        assert index.references is not None
        n_units, n_spans = stored.n_units, -(-stored.n_rows // SPAN_ROWS)
        n_heads = stored.n_groups if index.form == CODES else 0
        expected = n_spans, n_heads + n_units, 3
        try:
            grid = unpack_references(index.references)
        except ValueError as error:
            raise ChunkCorruptError(where=f"index of {index.name!r}", expected="runs", got=str(error)) from error
        said = index.span_rows, index.n_heads, index.n_units
        if grid.shape != expected or said != (SPAN_ROWS, n_heads, n_units) or (grid < 0).any():
            raise ChunkCorruptError(
                where=f"index of {index.name!r}", expected=f"a grid of {expected}", got=f"{grid.shape}, {said}"
            )
        return cls(index, grid)

    def numbers(self, stored: Intermediate, units: Iterable[int]) -> list[int]:
        """Which of a span's heads and units are read for some units, sorted."""
        n_heads = self.index.n_heads
        heads = {group_of(stored, unit) for unit in units} if n_heads else set()
        return [*sorted(heads), *(n_heads + unit for unit in sorted(units))]


def payloads_of(segments: SegmentReader, places: IndexPlaces, span: int, numbers: list[int]) -> dict[int, np.ndarray]:
    """The payloads of some heads and units of a span, by their numbers, verified."""
    index = places.index
    assert index.references is not None
    by_segment: dict[int, dict[int, int]] = defaultdict(dict)
    for number in numbers:
        segment, unit, _ = places.grid[span, number].tolist()
        by_segment[segment][unit] = number
    found = {}
    for at, wanted in by_segment.items():
        segment = index.references.segments[at]
        table = segments.table(segment)
        for units, payloads in segments.payloads(segment, np.array(sorted(wanted), np.int64)):
            for unit, payload in zip(units.tolist(), payloads, strict=True):
                kind = table.kinds[int(table.kind_of[unit])]
                if kind != index_kind(index.form):
                    where = f"segment {segment.id}, unit {unit}"
                    raise ChunkCorruptError(where=where, expected=f"an index of {index.form}", got=kind.codec)
                found[wanted[unit]] = payload
    return found
