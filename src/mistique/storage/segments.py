"""Segments: dense arrays (column, row) of encoded cells, written once, every read verified.

The dimensions are (column, row) in row-major order, which is (row, column) in column-major order by another name:
TileDB-Py 0.36.1 returns the cells of a column-major read in the wrong places (docs/adr/0001).
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import tiledb

from mistique.codecs import Codec, codec_from_config
from mistique.errors import ChunkCorruptError
from mistique.schema import TILE_CELLS, Segment
from mistique.storage.digests import Digest, chunk_digest, codec_text, digest_bytes
from mistique.storage.layout import Layout
from mistique.storage.options import StorageOptions, damage_as_error, translated

# Rows of a segment are not known while it is streamed, so its domain has room; unwritten cells take no space.
_MAX_ROWS = 2**40
_MAX_OPEN = 64
# Merging reads and writes everything again: a capture took 1.9 times as long, reads no less time (docs/adr/0006).
_MAX_FRAGMENTS = 16


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTable:
    """Digest and decoding parameters of each chunk of a segment, by block and group."""

    digests: np.ndarray  # (n_blocks, n_groups, 2) uint64
    params: np.ndarray  # (n_blocks, n_groups, n_params) float64

    def root(self) -> str:
        """The digest of the table, in hex."""
        shape = np.array([*self.digests.shape, self.params.shape[-1]], np.int64)
        first, second = digest_bytes(shape.tobytes() + self.digests.tobytes() + self.params.tobytes())
        return f"{first:016x}{second:016x}"


class SegmentWriter:
    """Writes one segment, a rectangle of chunks at a time; nothing of it can be seen before a record refers to it."""

    def __init__(
        self,
        layout: Layout,
        ctx: tiledb.Ctx,
        options: StorageOptions,
        *,
        cell: np.dtype,
        codec: Codec,
        n_columns: int,
        block_rows: int,
        group_columns: int,
    ) -> None:
        self.id = secrets.token_hex(16)
        self._uri, self._ctx = layout.segment(self.id), ctx
        self._cell, self._codec = cell, codec
        self._n_columns, self._block_rows, self._group_columns = n_columns, block_rows, group_columns
        self._n_rows = 0
        self._n_writes = 0
        self._digests: dict[tuple[int, int], Digest] = {}
        self._params: dict[tuple[int, int], np.ndarray] = {}
        tile_columns = group_columns if group_columns > 1 else max(TILE_CELLS // block_rows, 1)
        with translated(self._uri, "make segment"):
            tiledb.Array.create(self._uri, self._schema(min(tile_columns, n_columns), options), ctx=ctx)

    def _schema(self, tile_columns: int, options: StorageOptions) -> tiledb.ArraySchema:
        known = {"byteshuffle": tiledb.ByteShuffleFilter(), "zstd": tiledb.ZstdFilter(level=options.zstd_level)}
        is_text = self._cell.kind == "U"
        filters = [known[name] for name in self._codec.filters if not (is_text and name == "byteshuffle")]
        domain = tiledb.Domain(
            tiledb.Dim("column", domain=(0, self._n_columns - 1), tile=tile_columns, dtype=np.uint64),
            tiledb.Dim("row", domain=(0, _MAX_ROWS - 1), tile=self._block_rows, dtype=np.uint64),
        )
        cells = tiledb.Attr("cells", dtype=self._cell, var=is_text, filters=tiledb.FilterList(filters))
        # A flipped bit in a tile of offsets crashes the process before any digest is held against anything.
        checked = tiledb.FilterList([tiledb.ZstdFilter(level=options.zstd_level), tiledb.ChecksumMD5Filter()])
        return tiledb.ArraySchema(
            domain=domain, attrs=[cells], cell_order="row-major", tile_order="row-major", offsets_filters=checked
        )

    def write(self, cells: np.ndarray, *, column: int, row: int) -> None:
        """Write a rectangle of encoded cells, shape (n_columns, n_rows), on chunk boundaries."""
        n_columns, n_rows = cells.shape
        with translated(self._uri, "write segment"), tiledb.open(self._uri, "w", ctx=self._ctx) as array:
            array[column : column + n_columns, row : row + n_rows] = cells
        self._n_rows = max(self._n_rows, row + n_rows)
        self._n_writes += 1

    def note(self, block: int, group: int, digest: Digest, params: np.ndarray) -> None:
        """Enter one chunk into the table."""
        self._digests[block, group] = digest
        self._params[block, group] = params

    def finish(self) -> Segment:
        """Merge it if it is in many fragments, write the table, and describe it."""
        n_blocks = -(-self._n_rows // self._block_rows)
        n_groups = -(-self._n_columns // self._group_columns)
        table = ChunkTable(
            np.zeros((n_blocks, n_groups, 2), np.uint64), np.zeros((n_blocks, n_groups, self._codec.n_params))
        )
        for place, digest in self._digests.items():
            table.digests[place] = digest
            table.params[place] = self._params[place]
        facts: dict[str, Any] = {
            "codec": self._codec.config(),
            "n_rows": self._n_rows,
            "n_columns": self._n_columns,
            "block_rows": self._block_rows,
            "group_columns": self._group_columns,
            "cell": self._cell.str,
        }
        with translated(self._uri, "finish segment"):
            if self._n_writes > _MAX_FRAGMENTS:
                tiledb.consolidate(self._uri, ctx=self._ctx)
                tiledb.vacuum(self._uri, ctx=self._ctx)
            with tiledb.open(self._uri, "w", ctx=self._ctx) as array:
                array.meta["facts"] = json.dumps(facts)
                array.meta["digests"] = table.digests.tobytes()
                array.meta["params"] = table.params.tobytes() or b"-"
            encoded_nbytes = tiledb.VFS(ctx=self._ctx).dir_size(self._uri)
        return Segment(self.id, root=table.root(), encoded_nbytes=encoded_nbytes, **facts)

    def discard(self) -> None:
        """Take it away again, as far as that can be done: what stays is garbage that no record refers to."""
        with suppress(tiledb.TileDBError):
            tiledb.Array.delete_array(self._uri, ctx=self._ctx)


class SegmentReader:
    """Reads chunks of segments and holds each against its digest. Arrays stay open; threads may share a reader."""

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._ctx = layout, ctx
        self._open: OrderedDict[str, tuple[tiledb.DenseArray, Segment, ChunkTable]] = OrderedDict()
        self._lock = Lock()

    def describe(self, segment_id: str) -> tuple[Segment, ChunkTable]:
        """What a segment says of itself: to be believed only as far as a digest is held against it."""
        _, segment, table = self._handle(segment_id)
        return segment, table

    def encoded_nbytes(self, segment_id: str) -> int:
        """Bytes that a segment takes in the store."""
        uri = self._layout.segment(segment_id)
        with translated(uri, "measure"):
            return int(tiledb.VFS(ctx=self._ctx).dir_size(uri))

    def read(
        self, segment: Segment, *, block: int, n_blocks: int, group: int, n_groups: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A verified rectangle of chunks.

        Returns
        -------
        cells : ndarray of shape (n_columns, n_rows)
            Encoded.
        params : ndarray of shape (n_blocks, n_groups, n_params), float64

        Raises
        ------
        ChunkCorruptError
            The table is not the one that the record refers to, or a chunk is not the one that was written.
        """
        array, _, table = self._handle(segment.id, expected=segment)
        first_row, first_column = block * segment.block_rows, group * segment.group_columns
        last_row = min(first_row + n_blocks * segment.block_rows, segment.n_rows)
        last_column = min(first_column + n_groups * segment.group_columns, segment.n_columns)
        with damage_as_error(f"segment {segment.id}", "a readable segment"):
            cells = array[first_column:last_column, first_row:last_row]
        if isinstance(cells, dict):
            cells = cells["cells"]
        codec = codec_text(segment.codec)
        for b in range(n_blocks):
            rows = slice(b * segment.block_rows, (b + 1) * segment.block_rows)
            for g in range(n_groups):
                columns = slice(g * segment.group_columns, (g + 1) * segment.group_columns)
                found = chunk_digest(cells[columns, rows], table.params[block + b, group + g], codec)
                expected = tuple(table.digests[block + b, group + g].tolist())
                if found != expected:
                    raise ChunkCorruptError(
                        where=f"segment {segment.id}, block {block + b}, group {group + g}",
                        expected=f"digest {expected[0]:016x}",
                        got=f"{found[0]:016x}",
                    )
        return cells, table.params[block : block + n_blocks, group : group + n_groups]

    def close(self) -> None:
        """Let go of every open array."""
        with self._lock:
            for array, _, _ in self._open.values():
                array.close()
            self._open.clear()

    def _handle(
        self, segment_id: str, expected: Segment | None = None
    ) -> tuple[tiledb.DenseArray, Segment, ChunkTable]:
        with self._lock:
            entry = self._open.get(segment_id)
            if entry is None:
                entry = self._load(segment_id)
                self._open[segment_id] = entry
                while len(self._open) > _MAX_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(segment_id)
        if expected is not None and (entry[1].root != expected.root or entry[1] != _comparable(expected, entry[1])):
            raise ChunkCorruptError(
                where=f"segment {segment_id}", expected=f"table {expected.root}", got=f"table {entry[1].root}"
            )
        return entry

    def _load(self, segment_id: str) -> tuple[tiledb.DenseArray, Segment, ChunkTable]:
        uri = self._layout.segment(segment_id)
        with damage_as_error(f"segment {segment_id}", "a readable segment"):
            array = tiledb.open(uri, "r", ctx=self._ctx)
            facts = json.loads(array.meta["facts"])
            segment = Segment(segment_id, root="", encoded_nbytes=0, **facts)
            n_params = codec_from_config(segment.codec).n_params
            shape = segment.n_blocks, segment.n_groups
            digests = np.frombuffer(array.meta["digests"], np.uint64).reshape(*shape, 2)
            params = np.frombuffer(array.meta["params"] if n_params else b"", np.float64).reshape(*shape, n_params)
            table = ChunkTable(digests, params)
        return array, Segment(segment_id, root=table.root(), encoded_nbytes=0, **facts), table


def _comparable(expected: Segment, found: Segment) -> Segment:
    """The record's description, with what the segment cannot know of itself taken from the segment."""
    facts = {name: getattr(expected, name) for name in expected.__slots__ if name != "encoded_nbytes"}
    return Segment(**facts, encoded_nbytes=found.encoded_nbytes)
