"""Chunks of old segments into new ones: layers as they are, columns of tables beside those that they resemble."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np

from mistique.codecs import Codec, codec_from_config
from mistique.dedup.placement import Placement
from mistique.dedup.survey import Held, Twin
from mistique.errors import StoreError
from mistique.kernels.distinct import distinct
from mistique.schema import Segment
from mistique.storage.move_records import SegmentMove
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader
from mistique.storage.units import Unit, UnitKind

_FLUSH_NBYTES = 16 * 1024 * 1024
_SEGMENT_NBYTES = 256 * 1024 * 1024
# Columns that are looked at together: their cells are in memory.
_CELLS_NBYTES = 64 * 1024 * 1024
_TEXT_NBYTES = 64
_PAIRS_AT_ONCE = 512

# Chunks of one column, a block after the other: the segment's number, the chunk's.
Column = list[tuple[int, int]]
Asked = tuple[int, int]


class UnreadableSegmentError(StoreError):
    """A unit of a segment cannot be read."""

    def __init__(self, *, segment_id: str, why: str) -> None:
        super().__init__(why)
        self.segment_id = segment_id


class Rewriter:
    """Writes the chunks of some segments again, each content once.

    Parameters
    ----------
    held : list of Held
        What is rewritten.
    make_writer : callable
    segments : SegmentReader
    placement : Placement
    """

    def __init__(
        self,
        held: list[Held],
        *,
        make_writer: Callable[[], SegmentWriter],
        segments: SegmentReader,
        placement: Placement,
    ) -> None:
        self._held, self._make_writer, self._segments, self._placement = held, make_writer, segments, placement
        self.is_needed = [one.is_used.copy() for one in held]
        self._places = [np.full((len(one.is_used), 3), -1, np.int64) for one in held]
        self._targets: list[Segment | SegmentWriter] = []
        self._writer: SegmentWriter | None = None
        self._written = 0
        self._same: list[tuple[int, np.ndarray, int, np.ndarray]] = []
        self.n_twins = 0

    def leave_out(self, twins: Iterable[Twin]) -> None:
        """Do not write again what a segment holds that stays, where it really does."""
        for twin in twins:
            number = self._held.index(twin.held)
            is_equal = self._are_equal(twin)
            chunks, kept = twin.chunks[is_equal], twin.kept[is_equal]
            if len(chunks):
                target = self._target(twin.keeper.segment)
                units = twin.keeper.units_of(kept)
                places = kept - twin.keeper.table.first_chunk[units]
                self._places[number][chunks] = np.stack([np.full(len(chunks), target), units, places], axis=1)
                self.is_needed[number][chunks] = False
                self.n_twins += len(chunks)

    def leave_out_own_twins(self) -> None:
        """Of equal chunks among those that are written again, write the first."""
        whose = np.concatenate([np.full(needed.sum(), n) for n, needed in enumerate(self.is_needed)])
        chunks = np.concatenate([np.flatnonzero(needed) for needed in self.is_needed])
        halves = [held.contents[needed, 0] for held, needed in zip(self._held, self.is_needed, strict=True)]
        _, first, inverse = np.unique(np.concatenate(halves), return_index=True, return_inverse=True)
        first = first[inverse]
        is_twin = first != np.arange(len(first))
        pairs = np.unique(np.stack([whose[is_twin], whose[first[is_twin]]], axis=1), axis=0)
        for one, other in pairs.tolist():
            at = np.flatnonzero(is_twin & (whose == one) & (whose[first] == other))
            twin = Twin(self._held[one], self._held[other], chunks[at], chunks[first[at]])
            is_equal = self._are_equal(twin)
            self._same.append((one, twin.chunks[is_equal], other, twin.kept[is_equal]))
            self.is_needed[one][twin.chunks[is_equal]] = False
            self.n_twins += int(is_equal.sum())

    def write(self, columns: Iterable[Column]) -> None:
        """Write what is needed; `columns` says which chunks of tables are one column, in the order of the models."""
        for number, held in enumerate(self._held):
            self._copy(number, held)
        alike: dict[tuple[UnitKind, tuple[int, ...]], list[Column]] = defaultdict(list)
        for column in self._open_columns(columns):
            kinds = [self._kind(chunk) for chunk in column]
            parts = [column] if len({kind for kind, _ in kinds}) == 1 else [[chunk] for chunk in column]
            for part in parts:
                kinds = [self._kind(chunk) for chunk in part]
                alike[kinds[0][0], tuple(n_rows for _, n_rows in kinds)].append(part)
        for (kind, n_rows), found in alike.items():
            cell_nbytes = _TEXT_NBYTES if kind.cell == "<U0" else np.dtype(kind.cell).itemsize
            step = max(_CELLS_NBYTES // (sum(n_rows) * cell_nbytes), 1)
            for start in range(0, len(found), step):
                self._pack(kind, found[start : start + step])

    def finish(self) -> tuple[list[SegmentMove], list[Segment], frozenset[str]]:
        """Close the segments; where everything went, the segments it went to, and which of these are new."""
        made: set[str] = set()
        targets: list[Segment] = []
        for target in self._targets:
            if isinstance(target, SegmentWriter):
                targets.append(target.finish())
                made.add(targets[-1].id)
            else:
                targets.append(target)
        for one, chunks, other, kept in self._same:
            self._places[one][chunks] = self._places[other][kept]
        moves = [
            SegmentMove(held.segment, held.table.first_chunk, *places.T)
            for held, places in zip(self._held, self._places, strict=True)
        ]
        return moves, targets, frozenset(made)

    @property
    def begun(self) -> frozenset[str]:
        """The segments that something was written to."""
        return frozenset(t.id for t in self._targets if isinstance(t, SegmentWriter) and t.is_begun)

    def discard(self) -> None:
        """Take away what was begun."""
        for target in self._targets:
            if isinstance(target, SegmentWriter):
                target.discard()

    def _target(self, segment: Segment | SegmentWriter) -> int:
        for number, target in enumerate(self._targets):
            if target.id == segment.id:
                return number
        self._targets.append(segment)
        return len(self._targets) - 1

    def _append(self, unit: Unit) -> tuple[int, int]:
        """Write a unit; the numbers of its segment and of itself."""
        if self._writer is None or self._written > _SEGMENT_NBYTES:
            if self._writer is not None:
                self._writer.flush()
            self._writer, self._written = self._make_writer(), 0
        number = self._writer.append(unit)
        self._written += unit.payload.nbytes
        if self._writer.pending_nbytes > _FLUSH_NBYTES:
            self._writer.flush()
        return self._target(self._writer), number

    def _copy(self, number: int, held: Held) -> None:
        """Units that are copied byte by byte: layers, and columns whose codec is lossy."""
        is_packed = np.array([_is_packed(kind) for kind in held.table.kinds], bool)[held.table.kind_of]
        units = distinct(held.units_of(np.flatnonzero(self.is_needed[number])))
        first = held.table.first_chunk
        for unit, payload in self._payloads(held, units[~is_packed[units]]):
            shape = int(held.table.shapes[unit, 0]), int(held.table.shapes[unit, 1])
            chunks = slice(int(first[unit]), int(first[unit + 1]))
            kind = held.table.kinds[int(held.table.kind_of[unit])]
            target, written = self._append(Unit(kind, shape, payload, held.contents[chunks]))
            for place, chunk in enumerate(range(chunks.start, chunks.stop)):
                if self._places[number][chunk, 0] < 0:
                    self._places[number][chunk] = target, written, place
            self.is_needed[number][chunks] = False

    def _open_columns(self, columns: Iterable[Column]) -> Iterator[Column]:
        """Columns with the chunks that are still to be written; at the end, chunks that no column claims."""
        waiting = [needed.copy() for needed in self.is_needed]
        for column in columns:
            found = [(number, chunk) for number, chunk in column if waiting[number][chunk]]
            found = list(dict.fromkeys(found))
            for number, chunk in found:
                waiting[number][chunk] = False
            if found:
                yield found
        for number, left in enumerate(waiting):
            for chunk in np.flatnonzero(left).tolist():
                yield [(number, chunk)]

    def _pack(self, kind: UnitKind, columns: list[Column]) -> None:
        values = self._values(chunk for column in columns for chunk in column)
        cells = [np.concatenate([values[chunk] for chunk in column]) for column in columns]
        for pack in self._placement.packs(columns, cells):
            for block in zip(*pack, strict=True):
                stacked = np.stack([values[chunk] for chunk in block])
                contents = np.stack([self._held[number].contents[chunk] for number, chunk in block])
                payload = _codec(kind.codec).encode(stacked, kind.type)
                target, written = self._append(Unit(kind, stacked.shape, payload, contents))
                for place, (number, chunk) in enumerate(block):
                    self._places[number][chunk] = target, written, place

    def _kind(self, asked: Asked) -> tuple[UnitKind, int]:
        """Kind and rows of a chunk."""
        table = self._held[asked[0]].table
        unit = int(self._held[asked[0]].units_of(np.array(asked[1])))
        return table.kinds[int(table.kind_of[unit])], int(table.shapes[unit, 1])

    def _values(self, asked: Iterable[Asked]) -> dict[Asked, np.ndarray]:
        """Decoded chunks of tables."""
        by_segment: dict[int, list[int]] = defaultdict(list)
        for number, chunk in asked:
            by_segment[number].append(chunk)
        values: dict[Asked, np.ndarray] = {}
        for number, chunks in by_segment.items():
            found = self._decoded(self._held[number], distinct(np.array(chunks, np.int64)))
            values.update({(number, chunk): cells for chunk, cells in found.items()})
        return values

    def _decoded(self, held: Held, chunks: np.ndarray) -> dict[int, np.ndarray]:
        units = held.units_of(chunks)
        places = chunks - held.table.first_chunk[units]
        of_unit: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for chunk, unit, place in zip(chunks.tolist(), units.tolist(), places.tolist(), strict=True):
            of_unit[unit].append((chunk, place))
        values: dict[int, np.ndarray] = {}
        for unit, payload in self._payloads(held, distinct(units)):
            kind = held.table.kinds[int(held.table.kind_of[unit])]
            shape = int(held.table.shapes[unit, 0]), int(held.table.shapes[unit, 1])
            try:
                decoded = _codec(kind.codec).decode(payload, shape, kind.type)
            except (StoreError, ValueError, OverflowError) as error:
                raise UnreadableSegmentError(segment_id=held.segment.id, why=str(error)) from error
            values.update({chunk: decoded[place].copy() for chunk, place in of_unit[unit]})
        return values

    def _payloads(self, held: Held, units: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        try:
            for found, payloads in self._segments.payloads(held.segment, units):
                yield from zip(found.tolist(), payloads, strict=True)
        except StoreError as error:
            raise UnreadableSegmentError(segment_id=held.segment.id, why=str(error)) from error

    def _are_equal(self, twin: Twin) -> np.ndarray:
        """Which chunks of a pair of segments have equal values: a digest that stands in a segment may be a lie."""
        is_equal = np.zeros(len(twin.chunks), bool)
        for start in range(0, len(twin.chunks), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            ours, theirs = (
                self._comparable(held, chunks[part])
                for held, chunks in ((twin.held, twin.chunks), (twin.keeper, twin.kept))
            )
            is_equal[part] = [
                ours[one] == theirs[other]
                for one, other in zip(twin.chunks[part].tolist(), twin.kept[part].tolist(), strict=True)
            ]
        return is_equal

    def _comparable(self, held: Held, chunks: np.ndarray) -> dict[int, tuple[object, ...]]:
        """What makes a chunk what it is: its kind, its shape, and its cells or, if it is a unit, its payload."""
        units = held.units_of(chunks)
        kinds = [held.table.kinds[kind] for kind in held.table.kind_of[units].tolist()]
        is_column = np.array([_is_packed(kind) for kind in kinds], bool)
        decoded = self._decoded(held, distinct(chunks[is_column]))
        payloads = {unit: payload.tobytes() for unit, payload in self._payloads(held, distinct(units[~is_column]))}
        found: dict[int, tuple[object, ...]] = {}
        for chunk, unit, kind in zip(chunks.tolist(), units.tolist(), kinds, strict=True):
            n_columns, n_rows = held.table.shapes[unit].tolist()
            if _is_packed(kind):
                cells = decoded[chunk]
                found[chunk] = kind, n_rows, tuple(cells) if cells.dtype.kind in "OU" else cells.tobytes()
            else:
                place = chunk - int(held.table.first_chunk[unit])
                found[chunk] = kind, n_columns, n_rows, place, payloads[unit]
        return found


def _is_packed(kind: UnitKind) -> bool:
    return kind.is_table and not _codec(kind.codec).is_lossy


@lru_cache(maxsize=256)
def _codec(config: str) -> Codec:
    return codec_from_config(json.loads(config))
