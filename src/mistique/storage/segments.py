"""Reading segments: every table and every payload is held against its digest."""

from __future__ import annotations

import ctypes
import json
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError
from mistique.kernels.distinct import distinct
from mistique.schema import Part, Segment
from mistique.storage.digests import digest_bytes, digest_text, is_sealed
from mistique.storage.fragments import ALL_TIME
from mistique.storage.layout import Layout
from mistique.storage.lender import Lender
from mistique.storage.options import damage_as_error
from mistique.storage.payloads import Payloads
from mistique.storage.segment_writer import SEGMENT_SEAL
from mistique.storage.soundness import refuse_unsound
from mistique.storage.units import ALIGNMENT, UnitTable, expanded

T = TypeVar("T")
R = TypeVar("R")

_MAX_OPEN = 64
# A gap that is read along costs less than another range does.
GAP_NBYTES = 16 * 1024
_BATCH_NBYTES = 16 * 1024 * 1024
_N_THREADS = os.cpu_count() or 1  # to ask for it takes as long as to decode some rows
# What questions in portions work on at once.
_LENT_NBYTES = 64 * 1024 * 1024


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
        self._pools: list[ThreadPoolExecutor] = []
        self.lender = Lender(_LENT_NBYTES)
        # Few people close a store. Its arrays must be closed before the context that they were opened in goes, and a
        # garbage collector takes them apart in any order: so what holds them is no part of the garbage.
        self._finalizer = weakref.finalize(self, _let_go, self._open, self._pools)

    def describe(self, segment_id: str) -> Segment | None:
        """What a segment of this user says of itself; None: another wrote it, and it may say what it likes.

        Whoever reads a store sees the digests of its chunks, and could write a segment that claims them for other
        values: so nothing that was not sealed by this user's key answers for what this user captures.
        """
        uri = self._layout.segment(segment_id)
        with damage_as_error(f"segment {segment_id}", "a readable segment"):
            refuse_unsound(uri)
            with tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array:
                said, found = array.meta["facts"], array.meta.get("seal")
            if not is_sealed(found, SEGMENT_SEAL, segment_id.encode(), said.encode()):
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

    def open_table(self, segment_id: str) -> UnitTable | None:
        """The table of the units of a segment that is open; None: it must be opened to be read."""
        handle = self._open.get(segment_id)
        return None if handle is None else handle.table

    def contents(self, segment: Segment) -> np.ndarray:
        """Digests of the values of all chunks, shape (n_chunks, 2), uint64; verified."""
        handle = self._handle(segment)
        content = expanded(self._part(handle.array, segment, segment.contents), segment.n_chunks * 16)
        return np.frombuffer(content, np.uint64).reshape(segment.n_chunks, 2)

    def payloads(self, segment: Segment, units: np.ndarray) -> Iterator[tuple[np.ndarray, Payloads]]:
        """Payloads of units, each held against its digest.

        Parameters
        ----------
        segment : Segment
        units : ndarray of int64, sorted

        Yields
        ------
        units : ndarray of int64
            Some of those asked for, about 16 MiB of them.
        payloads : Payloads

        Raises
        ------
        ChunkCorruptError
            A unit is not the one that was written.
        """
        table = self.table(segment)
        for chosen, payloads in self.unheld_payloads(segment, units):
            table.hold(chosen, payloads, segment.id)
            yield chosen, payloads

    def unheld_payloads(self, segment: Segment, units: np.ndarray) -> Iterator[tuple[np.ndarray, Payloads]]:
        """As `payloads`, for who holds each against its digest before anything else, on the thread that decodes it."""
        handle = self._handle(segment)
        table = handle.table
        if len(units) and not 0 <= units[0] <= units[-1] < table.n_units:
            raise ChunkCorruptError(
                where=f"segment {segment.id}", expected=f"units below {table.n_units}", got=f"unit {units[-1]}"
            )
        sizes = table.n_bytes[units]
        batch_of = np.cumsum(sizes) // _BATCH_NBYTES
        for batch in distinct(batch_of):
            chosen = units[batch_of == batch]
            chosen = chosen[np.argsort(table.offsets[chosen], kind="stable")]
            yield chosen, self._read(handle, chosen)

    def spread(
        self, function: Callable[[list[T]], R], work: list[T], *, size: int | None = None, is_quick: bool = False
    ) -> list[Future[R]]:
        """Run a function over parts of some work on the threads that decode; a little, or what is quick, at once.

        Parts have `size` items, else each thread takes one.
        """
        n_parts = min(_N_THREADS, len(work)) if size is None else -(-len(work) // size)
        if min(n_parts, _N_THREADS) < 2 or is_quick:
            done: Future[R] = Future()
            done.set_result(function(work))
            return [done]
        with self._lock:
            if not self._pools:
                self._pools.append(ThreadPoolExecutor(_N_THREADS, "mistique-read"))
            pool = self._pools[0]
        bounds = [len(work) * i // n_parts for i in range(n_parts + 1)]
        return [pool.submit(function, work[a:b]) for a, b in pairwise(bounds)]

    def use(self, ctx: tiledb.Ctx) -> None:
        """Open arrays in another context from now on; what is being read is read to its end."""
        with self._lock:
            self._ctx = ctx
            self._open.clear()

    def close(self) -> None:
        """Let go of every open array, and of the threads."""
        with self._lock:
            pools = [*self._pools]
        for pool in pools:
            pool.shutdown()
        self.lender.close()
        with self._lock:
            _let_go(self._open, self._pools)

    def abandon(self) -> None:
        """Never let go: in a process that was forked off, TileDB would wait for threads that are not there."""
        self._finalizer.detach()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object((self._open, self._ctx)))

    def _read(self, handle: _Handle, units: np.ndarray) -> Payloads:
        """Payloads of units that are sorted by offset, in as few ranges as their gaps allow."""
        table = handle.table
        starts = table.offsets[units]
        ends = starts + table.n_bytes[units]
        is_first = np.ones(len(units), bool)
        is_first[1:] = starts[1:] - ends[:-1] > GAP_NBYTES
        range_of = np.cumsum(is_first) - 1
        range_starts = starts[is_first]
        range_ends = ends[np.append(np.flatnonzero(is_first)[1:], len(units)) - 1]
        content, bounds = self._bytes(handle.array, handle.segment.id, range_starts, range_ends)
        return Payloads(content, starts - range_starts[range_of] + bounds[range_of], table.n_bytes[units])

    def _bytes(
        self, array: tiledb.DenseArray, segment_id: str, starts: Sequence[int] | np.ndarray, ends: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ranges of bytes one behind another, each beginning on a cell, and where each begins."""
        ranges = [(int(start) // 8, -(-int(end) // 8) - 1) for start, end in zip(starts, ends, strict=True)]
        with damage_as_error(f"segment {segment_id}", "a readable segment"):
            subarray = tiledb.Subarray(array)
            subarray.add_ranges([ranges])
            cells = array.read_subarray(subarray)
            content = (cells["bytes"] if isinstance(cells, dict) else cells).view(np.uint8)
            # It would hold what was read as long as the array is open: of 64 arrays, up to a GB.
            array.pyquery = None
        bounds = np.cumsum([0] + [(last - first + 1) * 8 for first, last in ranges])
        if len(content) != bounds[-1]:
            raise ChunkCorruptError(
                where=f"segment {segment_id}", expected=f"{bounds[-1]} bytes", got=f"{len(content)} bytes"
            )
        return content, bounds[:-1]

    def _part(self, array: tiledb.DenseArray, segment: Segment, part: Part) -> bytes:
        with damage_as_error(f"segment {segment.id}", "a table of its units"):
            if not 0 < part.n_bytes < 2**40 or part.offset % ALIGNMENT:
                raise ValueError(f"a part of {part.n_bytes} bytes at {part.offset}")
            content, _ = self._bytes(array, segment.id, [part.offset], [part.offset + part.n_bytes])
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
            uri = self._layout.segment(segment.id)
            refuse_unsound(uri)
            array = tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME)
        content = self._part(array, segment, segment.units)
        with damage_as_error(f"segment {segment.id}", "a table of its units"):
            table = UnitTable.from_bytes(content, n_units=segment.n_units)
        return _Handle(array, segment, table)


def _let_go(handles: OrderedDict[str, _Handle], pools: list[ThreadPoolExecutor]) -> None:
    for pool in pools:
        pool.shutdown(wait=False)
    pools.clear()
    for handle in handles.values():
        with suppress(tiledb.TileDBError):  # there is nothing left that anybody could do about it
            handle.array.close()
    handles.clear()
