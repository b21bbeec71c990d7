"""Chunks on their way into the segments of one capture: encoded beside the model, kept once, ending in references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import MappingProxyType

import numpy as np

from mistique.codecs import Codec
from mistique.dedup.exact import ExactDedup, KnownColumn, Located
from mistique.dedup.placement import Placement
from mistique.ingest.layers import LayerBlocks, LayerLayout
from mistique.ingest.tables import TableColumns, Where
from mistique.ingest.workers import Workers
from mistique.schema import ColumnType, Intermediate, References, Segment
from mistique.storage.digest_index import Place
from mistique.storage.digests import Digest, codec_text
from mistique.storage.references import pack_references
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.units import UnitKind

# A write of fewer bytes is mostly TileDB's fixed cost (5 to 10 ms a fragment).
_FLUSH_NBYTES = 16 * 1024 * 1024
# Layers that are so narrow share the segment of the tables: a segment of their own would be mostly overhead.
_NARROW_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class Buffered:
    """What a capture put into its segments.

    Parameters
    ----------
    references : dict of name to References
    new_nbytes : dict of name to int
        Bytes that each intermediate added to the store: its share of the segments written.
    places : dict of Digest to Place
        Of new chunks, for the index.
    columns : dict of bytes to KnownColumn
        Whole columns, for the next capture.
    """

    references: dict[str, References]
    new_nbytes: dict[str, int]
    places: dict[Digest, Place]
    columns: dict[bytes, KnownColumn]


class SegmentBuffer:
    """Takes columns and blocks of rows, keeps each content once, and ends in references.

    What is new in the tables of all stages lies in one segment. A layer has a segment of its own, in which its chunks
    lie row block by row block.

    Parameters
    ----------
    make_writer : callable
        Makes a `SegmentWriter`.
    dedup : ExactDedup
    placement : Placement
    key : bytes
        Of the digests by which chunks are found again.
    max_nbytes : int
        Of values that wait to be encoded and payloads that wait to be written.
    """

    def __init__(
        self,
        make_writer: Callable[[], SegmentWriter],
        dedup: ExactDedup,
        placement: Placement,
        *,
        key: bytes,
        max_nbytes: int,
    ) -> None:
        self._make_writer, self._dedup, self._key = make_writer, dedup, key
        self._max_nbytes = max_nbytes
        self._workers = Workers(max_nbytes)
        self._shared, self._shared_lock = make_writer(), Lock()
        self._tables = TableColumns(self._shared, self._shared_lock, dedup, self._workers, placement, key)
        self._settling: Future[None] | None = None
        self._layers: dict[str, LayerBlocks] = {}
        self._own: dict[Digest, tuple[SegmentWriter, int]] = {}
        self._own_lock = Lock()
        self._writers: dict[str, tuple[SegmentWriter, Lock]] = {self._shared.id: (self._shared, self._shared_lock)}

    def put_column(
        self, intermediate: Intermediate, group: int, cells: np.ndarray, column_type: ColumnType, codec: Codec
    ) -> None:
        """Take one column of a table, shape (n_rows,)."""
        kind = _kind(codec, column_type, is_table=True)
        self._tables.put(intermediate.name, group, cells, kind=kind, codec=codec, block_rows=intermediate.block_rows)
        if self._tables.pending_nbytes > self._max_nbytes // 2:
            self._encode_tables()

    def settle(self) -> None:
        """Encode the columns taken so far beside what the model does next; few more are to come."""
        self._wait()
        self._settling = self._workers.start(self._tables_into_segment)

    def put_block(self, intermediate: Intermediate, block: int, rows: Sequence[np.ndarray], codec: Codec) -> None:
        """Take one block of a layer, as pieces of shape (n_rows, ...), which nobody may change any more."""
        layer = self._layers.get(intermediate.name)
        if layer is None:
            layer = self._layers[intermediate.name] = self._new_layer(intermediate, codec)
        n_bytes = sum(piece.nbytes for piece in rows)
        self._workers.submit(partial(self._put_block, layer, block, rows), n_bytes=n_bytes)

    def forget(self, name: str) -> None:
        """Leave out an intermediate: what others share with it stays."""
        self._tables.forget(name)
        self._workers.drain()
        self._layers.pop(name, None)

    def finish(self) -> Buffered:
        """Write the rest, close the segments, and say where everything lies."""
        self._workers.drain()
        self._encode_tables()
        self._workers.close()
        segments = {writer.id: writer.finish() for writer, _ in self._writers.values() if writer.n_units}
        places = {
            digest: Place(self._shared.id, unit, place) for digest, (unit, place) in self._tables.entries().items()
        }
        references: dict[str, References] = {}
        new_nbytes: dict[str, float] = defaultdict(float, self._tables.new_nbytes)
        for name, columns in self._tables.grids():
            chunks = [column.places for column in columns]
            values = {group: column.dictionary.places[0] for group, column in enumerate(columns) if column.dictionary}
            references[name] = _references(chunks, segments, by_group=True, dictionaries=values)
        for name, layer in self._layers.items():
            blocks: list[list[Where | None]] = [[(where, unit, 0) for where, unit in row] for row in layer.blocks]
            references[name] = _references(blocks, segments, by_group=False)
            new_nbytes[name] += layer.new_nbytes
            places.update({digest: Place(layer.writer.id, unit, 0) for digest, unit in layer.entries.items()})
        used = {segment.id for found in references.values() for segment in found.segments}
        for writer, _ in self._writers.values():
            if writer.id not in used:  # of an intermediate that was left out
                writer.discard()
        # What the tables and the arrays themselves take is shared by size.
        overhead = sum(segments[i].encoded_nbytes for i in used & segments.keys()) / max(sum(new_nbytes.values()), 1)
        known = {
            name: KnownColumn(
                tuple(_located(where, segments) for where in column.places),
                _located(column.dictionary.places[0], segments) if column.dictionary else None,
            )
            for name, column in self._tables.columns().items()
        }
        shares = {name: int(n_bytes * overhead) for name, n_bytes in new_nbytes.items()}
        return Buffered(references, shares, places, known)

    def discard(self) -> None:
        """Give up: take away the segments begun."""
        self._workers.close()
        for writer, _ in self._writers.values():
            writer.discard()

    def _new_layer(self, intermediate: Intermediate, codec: Codec) -> LayerBlocks:
        column_type = intermediate.types[0]
        layout = LayerLayout(
            intermediate.name,
            intermediate.shape,
            intermediate.group_columns,
            column_type,
            codec,
            _kind(codec, column_type, is_table=False),
        )
        if intermediate.n_columns <= _NARROW_COLUMNS:
            writer, lock = self._shared, self._shared_lock
        else:
            writer, lock = self._make_writer(), Lock()
            self._writers[writer.id] = writer, lock
        return LayerBlocks(layout, writer, lock, self._dedup, self._own, self._own_lock, self._key)

    def _put_block(self, layer: LayerBlocks, block: int, rows: Sequence[np.ndarray]) -> int:
        added = layer.put(block, rows)
        writer, lock = self._writers[layer.writer.id]
        is_shared = writer is self._shared
        with lock:
            if writer.pending_nbytes > _FLUSH_NBYTES or (self._workers.is_full and not is_shared):
                written = writer.pending_nbytes
                writer.flush()
                if not is_shared:
                    self._workers.release(written - added)
                return 0
        # The shared segment holds at most _FLUSH_NBYTES; they are not counted.
        return 0 if is_shared else added

    def _encode_tables(self) -> None:
        self._wait()
        self._tables_into_segment()

    def _wait(self) -> None:
        """Until nothing settles any more; what that raised is raised here."""
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.result()

    def _tables_into_segment(self) -> None:
        self._tables.encode()
        with self._shared_lock:
            if self._shared.pending_nbytes > _FLUSH_NBYTES:
                self._shared.flush()


def _kind(codec: Codec, column_type: ColumnType, *, is_table: bool) -> UnitKind:
    # An exact codec keeps cells: what they stand for is the business of the intermediate.
    dtype = column_type.dtype if codec.is_lossy else column_type.cell
    return UnitKind(codec_text(codec.config()), dtype, column_type.cell, is_table)


def _located(where: Where | None, segments: dict[str, Segment]) -> Located:
    assert where is not None
    segment, unit, place = where
    return Located(segment if isinstance(segment, Segment) else segments[segment.id], unit, place)


def _references(
    places: Sequence[Sequence[Where | None]],
    segments: dict[str, Segment],
    *,
    by_group: bool,
    dictionaries: Mapping[int, Where | None] = MappingProxyType({}),
) -> References:
    """References to the chunks at these places, a list for each group or for each block."""
    numbers: dict[str, int] = {}
    listed: list[Segment] = []

    def number(where: Where | None) -> tuple[int, int, int]:
        segment, unit, place = _located(where, segments)
        if segment.id not in numbers:
            numbers[segment.id] = len(listed)
            listed.append(segment)
        return numbers[segment.id], unit, place

    grid = np.array([[number(where) for where in row] for row in places], np.int64)
    values = {group: number(where) for group, where in dictionaries.items()}
    return pack_references(listed, grid.transpose(1, 0, 2) if by_group else grid, values)
