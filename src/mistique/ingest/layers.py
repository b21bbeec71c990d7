"""The blocks of one layer on their way into a segment: cut into chunks, looked for, encoded, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from mistique.codecs import Codec
from mistique.codecs.codec import BlockCodec
from mistique.codecs.threads import scratch
from mistique.dedup.exact import ExactDedup, Located
from mistique.kernels.transpose import turn
from mistique.schema import ColumnType, Segment
from mistique.storage.digests import Digest, digest_bytes
from mistique.storage.segment_writer import SegmentWriter
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
    own_lock : Lock
        Of `own`.
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
        own_lock: Lock,
        key: bytes,
    ) -> None:
        self.layout, self.writer = layout, writer
        self._lock, self._dedup, self._own, self._own_lock, self._key = lock, dedup, own, own_lock, key
        self._places = _column_places(layout.shape)
        self._waiting: dict[int, list[tuple[Digest, Unit | Located | None]]] = {}
        self.blocks: list[list[tuple[SegmentWriter | Segment, int]]] = []
        self.n_groups = -(-len(self._places) // layout.group_columns)
        self.entries: dict[Digest, int] = {}
        self.new_nbytes = 0

    def put(self, block: int, rows: Sequence[np.ndarray]) -> int:
        """Encode a block, given as pieces of shape (n_rows, ...); the bytes of new payloads."""
        n_units = self.layout.shape[-1] if self.layout.shape else 1
        encoded = self._encode([piece.reshape(len(piece), -1, n_units) for piece in rows])
        with self._lock:
            self._waiting[block] = encoded
            before = self.writer.pending_nbytes
            while len(self.blocks) in self._waiting:
                self._take(self._waiting.pop(len(self.blocks)))
            return self.writer.pending_nbytes - before

    def _encode(self, pieces: list[np.ndarray]) -> list[tuple[Digest, Unit | Located | None]]:
        encoded: list[tuple[Digest, Unit | Located | None]] = []
        candidates: list[Located] = []
        kind = self.layout.kind
        for group, (shape, payload) in enumerate(self._payloads(pieces)):
            # Equal values give equal payloads, and these are a tenth of the bytes.
            digest = digest_bytes(payload, self._key, kind.context(*shape))
            found = self._find(digest, group, candidates)
            if found is not None or digest in self._own:
                encoded.append((digest, found))
            else:
                encoded.append((digest, Unit(kind, shape, payload, np.array([digest], np.uint64))))
        return encoded

    def _payloads(self, pieces: list[np.ndarray]) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Shape and payload of each chunk."""
        layout, codec = self.layout, self.layout.codec
        pieces = [np.ascontiguousarray(piece) for piece in pieces]
        whole = None
        if isinstance(codec, BlockCodec):
            whole = codec.encode_block(pieces, layout.column_type, group_columns=layout.group_columns)
        if whole is not None:
            yield from whole
            return
        n_columns, n_rows = len(self._places), sum(map(len, pieces))
        bits = np.dtype(f"u{pieces[0].itemsize}")
        columns = scratch("columns", n_columns * n_rows * bits.itemsize, np.uint8).view(bits).reshape(n_columns, n_rows)
        first_row = 0
        for piece in pieces:
            turn(piece.view(bits).reshape(len(piece), -1), first_row, columns)
            first_row += len(piece)
        for start in range(0, n_columns, layout.group_columns):
            values = columns[self._places[start : start + layout.group_columns]].view(layout.column_type.cell)
            yield values.shape, codec.encode(values, layout.column_type)

    def _find(self, digest: Digest, group: int, candidates: list[Located]) -> Located | None:
        if group % LOOKED_FOR == 0 and digest not in self._own:
            found = self._dedup.locate(np.array([digest], np.uint64)).values()
            candidates.extend(Located(located.segment, located.unit - group, 0) for located in found)
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
            # Two threads may have encoded the same chunk, of one layer or of two: the first here stands for both.
            with self._own_lock:
                own = self._own.get(digest)
                is_new = own is None
                if own is None:
                    assert what is not None
                    own = self._own[digest] = self.writer, self.writer.append(what)
            if is_new and what is not None:
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
