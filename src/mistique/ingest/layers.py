"""The blocks of one layer on their way into a segment: cut into chunks, looked for, encoded, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from mistique.codecs import Codec
from mistique.dedup.exact import ExactDedup, Located
from mistique.kernels.transpose import gather_columns
from mistique.schema import ColumnType, Segment
from mistique.storage.digests import Digest, chunk_content
from mistique.storage.segments import SegmentWriter
from mistique.storage.units import Unit, UnitKind

# Of the groups of a block, every 16th is looked for in the whole store; where one is found, its neighbours are too.
LOOKED_FOR = 16


@dataclass(frozen=True, slots=True)
class LayerLayout:
    """How the rows of a layer are cut.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Of one row.
    group_columns : int
    column_type : ColumnType
    codec : Codec
    kind : UnitKind
    """

    name: str
    shape: tuple[int, ...]
    group_columns: int
    column_type: ColumnType
    codec: Codec
    kind: UnitKind


class LayerBlocks:
    """Takes the blocks of one layer, from any thread, and puts their new chunks into a segment in order.

    Parameters
    ----------
    layout : LayerLayout
    writer : SegmentWriter
    lock : Lock
        Of the writer.
    dedup : ExactDedup
    own : dict
        Chunks of this capture by digest, shared between layers: (writer, unit).
    key : bytes
        Of the digests.
    """

    def __init__(
        self,
        layout: LayerLayout,
        writer: SegmentWriter,
        lock: Lock,
        dedup: ExactDedup,
        own: dict[Digest, tuple[SegmentWriter, int]],
        key: bytes,
    ) -> None:
        self.layout, self.writer = layout, writer
        self._lock, self._dedup, self._own, self._key = lock, dedup, own, key
        self._columns = _column_places(layout.shape)
        self._order = _group_order(layout.shape, layout.group_columns)
        self._waiting: dict[int, list[tuple[Digest, Unit | Located | None]]] = {}
        self.blocks: list[list[tuple[SegmentWriter | Segment, int]]] = []
        self.n_groups = -(-len(self._columns) // layout.group_columns)
        self.entries: dict[Digest, int] = {}
        self.new_nbytes = 0

    def put(self, block: int, rows: Sequence[np.ndarray]) -> int:
        """Encode a block, given as pieces of shape (n_rows, ...); the bytes of new payloads."""
        encoded = self._encode([piece.reshape(len(piece), -1) for piece in rows])
        with self._lock:
            self._waiting[block] = encoded
            before = self.writer.pending_nbytes
            while len(self.blocks) in self._waiting:
                self._take(self._waiting.pop(len(self.blocks)))
            return self.writer.pending_nbytes - before

    def _encode(self, pieces: list[np.ndarray]) -> list[tuple[Digest, Unit | Located | None]]:
        layout = self.layout
        n_rows = sum(map(len, pieces))
        cells = np.dtype(f"u{pieces[0].itemsize}")
        pieces = [np.ascontiguousarray(piece).view(cells) for piece in pieces]
        encoded: list[tuple[Digest, Unit | Located | None]] = [((0, 0), None)] * self.n_groups
        candidates: list[Located] = []
        for group in self._order.tolist():
            columns = self._columns[group * layout.group_columns : (group + 1) * layout.group_columns]
            chunk = np.empty((len(columns), n_rows), cells)
            first_row = 0
            for piece in pieces:
                gather_columns(piece, columns, first_row, chunk)
                first_row += len(piece)
            values = chunk.view(layout.column_type.cell)
            digest = chunk_content(values, layout.kind.context, self._key)
            found = self._find(digest, group, candidates)
            if found is None and digest not in self._own:
                payload = layout.codec.encode(values, layout.column_type)
                contents = np.array([digest], np.uint64)
                encoded[group] = digest, Unit(layout.kind, values.shape, payload, contents)
            else:
                encoded[group] = digest, found
        return encoded

    def _find(self, digest: Digest, group: int, candidates: list[Located]) -> Located | None:
        if group % LOOKED_FOR == 0 and digest not in self._own:
            for located in self._dedup.locate(np.array([digest], np.uint64)).values():
                candidates.append(Located(located.segment, located.unit - group, 0))
        for segment, unit, _ in candidates:
            if self._dedup.content(segment, unit + group, 0) == digest:
                return Located(segment, unit + group, 0)
        return None

    def _take(self, encoded: list[tuple[Digest, Unit | Located | None]]) -> None:
        """Put a block behind the one before it."""
        places: list[tuple[SegmentWriter | Segment, int]] = []
        for group, (digest, what) in enumerate(encoded):
            if isinstance(what, Located):
                places.append((what.segment, what.unit))
                continue
            own = self._own.get(digest)
            if own is None:
                # Two threads may have encoded the same chunk: the first that comes here stands for both.
                assert what is not None
                own = self._own[digest] = self.writer, self.writer.append(what)
                self.new_nbytes += what.payload.nbytes
                if group % LOOKED_FOR == 0:
                    self.entries[digest] = own[1]
            places.append(own)
        self.blocks.append(places)


@lru_cache(maxsize=64)
def _column_places(shape: tuple[int, ...]) -> np.ndarray:
    """Where each column, units outermost, lies in a row that is laid flat as it came."""
    n_units = shape[-1] if shape else 1
    places = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(-1, n_units)
    return np.ascontiguousarray(places.T).reshape(-1)


@lru_cache(maxsize=64)
def _group_order(shape: tuple[int, ...], group_columns: int) -> np.ndarray:
    """The groups such that neighbours in memory follow one another: the same positions of all units.

    A cache line holds 16 units of one position; in the order of columns it would be fetched 16 times.
    """
    n_columns = int(np.prod(shape, dtype=np.int64))
    positions = int(np.prod(shape[:-1], dtype=np.int64))
    groups = np.arange(-(-n_columns // group_columns))
    return groups[np.argsort(groups * group_columns % max(positions, 1), kind="stable")]
