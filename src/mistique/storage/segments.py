"""Segments: arrays of bytes that hold encoded units, written once, every read verified.

Payloads are encoded before they come here, so TileDB only carries them: one array, one dimension, no filters
(docs/adr/0014). The table of the units lies behind the payloads.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError
from mistique.schema import Part, Segment
from mistique.storage.digests import digest_bytes, digest_text, is_sealed, seal
from mistique.storage.layout import Layout
from mistique.storage.options import StorageOptions, damage_as_error, translated
from mistique.storage.units import ALIGNMENT, Unit, UnitTable, compressed, expanded

T = TypeVar("T")
R = TypeVar("R")

# Cells of 8 bytes: TileDB keeps statistics of each cell, and one byte a cell took 2 to 3 times the time.
_CELL = np.dtype(np.uint64)
_DOMAIN = (0, 2**60)
_MIN_TILE_NBYTES, _MAX_TILE_NBYTES = 4 * 1024, 64 * 1024
_MAX_OPEN = 64
# A gap that is read along costs less than another range does.
_GAP_NBYTES = 16 * 1024
_BATCH_NBYTES = 16 * 1024 * 1024
_SEAL = "segment"


class SegmentWriter:
    """Writes one segment; nothing of it can be seen before a record refers to it. One thread at a time.

    It is sealed: this user vouches for the digests that it holds, so they are never copied from what another wrote.
    """

    def __init__(self, layout: Layout, ctx: tiledb.Ctx, options: StorageOptions) -> None:
        self.id = secrets.token_hex(16)
        self._uri, self._ctx = layout.segment(self.id), ctx
        self._units: list[Unit] = []
        self._offsets: list[int] = []
        self._pending: list[np.ndarray] = []
        self._end = 0
        self._tile_nbytes = 0
        self.pending_nbytes = 0

    @property
    def n_units(self) -> int:
        """Units taken so far."""
        return len(self._units)

    def append(self, unit: Unit) -> int:
        """Take a unit; its number. It is written by the next `flush`."""
        self._offsets.append(self._end)
        self._units.append(unit)
        self._put(unit.payload)
        return len(self._units) - 1

    def flush(self) -> None:
        """Write what was taken. The next write begins on a tile of its own."""
        if not self._pending:
            return
        self._write({})
        self._end += -self._end % self._tile_nbytes

    def finish(self) -> Segment:
        """Write the rest and the tables, and describe the segment."""
        table = UnitTable.of(self._units, self._offsets)
        contents = [unit.contents for unit in self._units]
        parts = {
            "units": self._put_part(table.to_bytes()),
            "contents": self._put_part(compressed(np.concatenate(contents).tobytes())),
        }
        facts = {"n_units": table.n_units, "n_chunks": table.n_chunks, **parts}
        said = json.dumps(facts, default=asdict)
        self._write({"facts": said, "seal": seal(_SEAL, self.id.encode(), said.encode())})
        with translated(self._uri, "measure segment"):
            encoded_nbytes = tiledb.VFS(ctx=self._ctx).dir_size(self._uri)
        return Segment(self.id, table.n_units, table.n_chunks, **parts, encoded_nbytes=encoded_nbytes)

    def discard(self) -> None:
        """Take it away again, as far as that can be done: what stays is garbage that no record refers to."""
        if self._tile_nbytes:
            with suppress(tiledb.TileDBError):
                tiledb.Array.delete_array(self._uri, ctx=self._ctx)

    def _put(self, payload: np.ndarray) -> None:
        self._pending.append(payload)
        padded = payload.nbytes + -payload.nbytes % ALIGNMENT
        self._end += padded
        self.pending_nbytes += padded

    def _put_part(self, content: bytes) -> Part:
        part = Part(self._end, len(content), digest_text(digest_bytes(content)))
        self._put(np.frombuffer(content, np.uint8))
        return part

    def _write(self, meta: dict[str, str]) -> None:
        cells = np.zeros(self.pending_nbytes, np.uint8)
        position = 0
        for payload in self._pending:
            cells[position : position + payload.nbytes] = payload
            position += payload.nbytes + -payload.nbytes % ALIGNMENT
        with translated(self._uri, "write segment"):
            if not self._tile_nbytes:
                self._create(len(cells))
            with tiledb.open(self._uri, "w", ctx=self._ctx) as array:
                first = (self._end - len(cells)) // _CELL.itemsize
                array[first : first + len(cells) // _CELL.itemsize] = cells.view(_CELL)
                array.meta.update(meta)
        self._pending.clear()
        self.pending_nbytes = 0

    def _create(self, n_bytes: int) -> None:
        """Make the array. Tiles are written whole, so a small segment has small ones."""
        self._tile_nbytes = min(max(1 << (n_bytes // 16).bit_length(), _MIN_TILE_NBYTES), _MAX_TILE_NBYTES)
        tile = self._tile_nbytes // _CELL.itemsize
        domain = tiledb.Domain(tiledb.Dim("position", domain=_DOMAIN, tile=tile, dtype=np.uint64))
        schema = tiledb.ArraySchema(domain=domain, attrs=[tiledb.Attr("bytes", dtype=_CELL)])
        tiledb.Array.create(self._uri, schema, ctx=self._ctx)


@dataclass(frozen=True, slots=True, eq=False)
class _Handle:
    array: tiledb.DenseArray
    segment: Segment
    table: UnitTable


class SegmentReader:
    """Reads units of segments and holds each against its digest. Arrays stay open; threads may share a reader."""

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._ctx = layout, ctx
        self._open: OrderedDict[str, _Handle] = OrderedDict()
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def describe(self, segment_id: str) -> Segment | None:
        """What a segment of this user says of itself; None: another wrote it, and it may say what it likes.

        Whoever reads a store sees the digests of its chunks, and could write a segment that claims them for other
        values: so nothing that was not sealed by this user's key answers for what this user captures.
        """
        uri = self._layout.segment(segment_id)
        with damage_as_error(f"segment {segment_id}", "a readable segment"):
            with tiledb.open(uri, "r", ctx=self._ctx) as array:
                said, found = array.meta["facts"], array.meta.get("seal")
            if not is_sealed(found, _SEAL, segment_id.encode(), said.encode()):
                return None
            facts: dict[str, Any] = json.loads(said)
            parts = {name: Part(**facts[name]) for name in ("units", "contents")}
            encoded_nbytes = tiledb.VFS(ctx=self._ctx).dir_size(uri)
            return Segment(segment_id, facts["n_units"], facts["n_chunks"], **parts, encoded_nbytes=encoded_nbytes)

    def table(self, segment: Segment) -> UnitTable:
        """The table of the units of a segment, verified.

        Raises
        ------
        ChunkCorruptError
            It is not the one that the record refers to.
        """
        return self._handle(segment).table

    def is_open(self, segment_id: str) -> bool:
        """Whether a segment need not be opened to be read."""
        return segment_id in self._open

    def contents(self, segment: Segment) -> np.ndarray:
        """Digests of the values of all chunks, shape (n_chunks, 2), uint64; verified."""
        handle = self._handle(segment)
        content = expanded(self._part(handle.array, segment, segment.contents), segment.n_chunks * 16)
        return np.frombuffer(content, np.uint64).reshape(segment.n_chunks, 2)

    def payloads(self, segment: Segment, units: np.ndarray) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Payloads of units, each held against its digest.

        Parameters
        ----------
        segment : Segment
        units : ndarray of int64, sorted

        Yields
        ------
        units : ndarray of int64
            Some of those asked for, about 16 MiB of them.
        payloads : list of ndarray of uint8

        Raises
        ------
        ChunkCorruptError
            A unit is not the one that was written.
        """
        handle = self._handle(segment)
        table = handle.table
        if len(units) and not 0 <= units[0] <= units[-1] < table.n_units:
            raise ChunkCorruptError(
                where=f"segment {segment.id}", expected=f"units below {table.n_units}", got=f"unit {units[-1]}"
            )
        sizes = table.n_bytes[units]
        batch_of = np.cumsum(sizes) // _BATCH_NBYTES
        for batch in np.unique(batch_of):
            chosen = units[batch_of == batch]
            chosen = chosen[np.argsort(table.offsets[chosen], kind="stable")]
            yield chosen, self._read(handle, chosen)

    def spread(self, function: Callable[[list[T]], R], work: list[T]) -> list[Future[R]]:
        """Run a function over parts of some work on the threads that decode; a little work is done at once."""
        n_parts = min(os.cpu_count() or 1, len(work))
        if n_parts < 2:
            done: Future[R] = Future()
            done.set_result(function(work))
            return [done]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(n_parts, "mistique-read")
        bounds = [len(work) * i // n_parts for i in range(n_parts + 1)]
        return [self._pool.submit(function, work[a:b]) for a, b in pairwise(bounds)]

    def close(self) -> None:
        """Let go of every open array, and of the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        with self._lock:
            for handle in self._open.values():
                handle.array.close()
            self._open.clear()

    def _read(self, handle: _Handle, units: np.ndarray) -> list[np.ndarray]:
        """Payloads of units that are sorted by offset, in as few ranges as their gaps allow."""
        table = handle.table
        starts = table.offsets[units]
        ends = starts + table.n_bytes[units]
        is_first = np.ones(len(units), bool)
        is_first[1:] = starts[1:] - ends[:-1] > _GAP_NBYTES
        range_of = np.cumsum(is_first) - 1
        range_starts = starts[is_first]
        range_ends = ends[np.append(np.flatnonzero(is_first)[1:], len(units)) - 1]
        content = self._bytes(handle.array, handle.segment.id, range_starts, range_ends)
        payloads = []
        for unit, start, end, at in zip(units.tolist(), starts.tolist(), ends.tolist(), range_of.tolist(), strict=True):
            begin = start - int(range_starts[at])
            payload = content[at][begin : begin + end - start]
            found, expected = digest_bytes(payload), tuple(table.digests[unit].tolist())
            if found != expected:
                raise ChunkCorruptError(
                    where=f"segment {handle.segment.id}, unit {unit}",
                    expected=f"digest {digest_text(expected)}",
                    got=digest_text(found),
                )
            payloads.append(payload)
        return payloads

    def _bytes(
        self, array: tiledb.DenseArray, segment_id: str, starts: Sequence[int] | np.ndarray, ends: Any
    ) -> list[np.ndarray]:
        """Ranges of bytes, each beginning on a cell."""
        ranges = [(int(start) // 8, -(-int(end) // 8) - 1) for start, end in zip(starts, ends, strict=True)]
        with damage_as_error(f"segment {segment_id}", "a readable segment"):
            subarray = tiledb.Subarray(array)
            subarray.add_ranges([ranges])
            cells = array.read_subarray(subarray)
            content = (cells["bytes"] if isinstance(cells, dict) else cells).view(np.uint8)
        bounds = np.cumsum([0] + [(last - first + 1) * 8 for first, last in ranges])
        if len(content) != bounds[-1]:
            raise ChunkCorruptError(
                where=f"segment {segment_id}", expected=f"{bounds[-1]} bytes", got=f"{len(content)} bytes"
            )
        return [content[bounds[i] : bounds[i + 1]] for i in range(len(ranges))]

    def _part(self, array: tiledb.DenseArray, segment: Segment, part: Part) -> bytes:
        with damage_as_error(f"segment {segment.id}", "a table of its units"):
            if not 0 < part.n_bytes < 2**40 or part.offset % ALIGNMENT:
                raise ValueError(f"a part of {part.n_bytes} bytes at {part.offset}")
            (content,) = self._bytes(array, segment.id, [part.offset], [part.offset + part.n_bytes])
        found = content[: part.n_bytes]
        if digest_text(digest_bytes(found)) != part.digest:
            raise ChunkCorruptError(
                where=f"segment {segment.id}",
                expected=f"table {part.digest}",
                got=digest_text(digest_bytes(found)),
            )
        return found.tobytes()

    def _handle(self, segment: Segment) -> _Handle:
        with self._lock:
            handle = self._open.get(segment.id)
            if handle is None or handle.segment.units != segment.units:
                handle = self._load(segment)
                self._open[segment.id] = handle
                while len(self._open) > _MAX_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(segment.id)
        return handle

    def _load(self, segment: Segment) -> _Handle:
        with damage_as_error(f"segment {segment.id}", "a readable segment"):
            array = tiledb.open(self._layout.segment(segment.id), "r", ctx=self._ctx)
        content = self._part(array, segment, segment.units)
        with damage_as_error(f"segment {segment.id}", "a table of its units"):
            table = UnitTable.from_bytes(content, n_units=segment.n_units)
        return _Handle(array, segment, table)
