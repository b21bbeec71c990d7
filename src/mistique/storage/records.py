"""An append-only log of records in one sparse array, ordered without clocks, compacted as it grows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from threading import RLock
from typing import TypeVar

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, StoreError
from mistique.storage.fragments import fragment_timestamps, list_commits, random_timestamp
from mistique.storage.layout import make_array
from mistique.storage.options import StorageOptions, damage_as_error, translated
from mistique.storage.record_cells import (
    ATTACHMENTS,
    HEADS,
    Order,
    Place,
    Record,
    attachment_in,
    batches_of,
    cells_at,
    cells_of,
    records_in,
    schema_of_records,
)
from mistique.storage.soundness import refuse_unsound

T = TypeVar("T")
_READ_TRIES = 5
_ALL = (0, 2**63 - 1)


def create_records(uri: str, ctx: tiledb.Ctx) -> None:
    """Make an empty log."""
    make_array(uri, schema_of_records(), ctx)


class RecordLog:
    """Appends records and reads those of all writers, in one order on every host.

    Fragments get a random number for a timestamp. Their order then says nothing, so nobody can come to rest on it; no
    two writers, forked or on one clock, can give two fragments one name; and what is new can be read fragment by
    fragment.
    """

    def __init__(self, uri: str, ctx: tiledb.Ctx, options: StorageOptions) -> None:
        self._uri, self._ctx, self._options = uri, ctx, options
        self._vfs = tiledb.VFS(ctx=ctx)
        self._writer = secrets.token_hex(8)
        # Two threads of one writer must not give two records one place.
        self._lock = RLock()
        self._records: dict[Order, Record] = {}
        self._places: dict[Order, Place] = {}
        self._fragments: frozenset[str] = frozenset()
        self._own_stamps: set[tuple[int, int]] = set()

    def refresh(self) -> bool:
        """Read what is new; true if there was anything."""
        with self._lock:
            return self._refresh()

    def _refresh(self) -> bool:
        present = self._commits()
        new = present - self._fragments
        if not new:
            return False
        if not self._fragments:
            refuse_unsound(self._uri)
        # What this log wrote itself it knows: TileDB would look through the larger fragments for it, too.
        unknown = frozenset(name for name in new if fragment_timestamps(name) not in self._own_stamps)
        for order, record, place in self._retry(lambda: self._read_new(unknown)) if unknown else ():
            self._records[order], self._places[order] = record, place
        self._fragments = present
        return True

    def records(self, *, beside: Container[Order] = ()) -> list[tuple[Order, Record]]:
        """All records known but some, oldest first."""
        with self._lock:
            found = [item for item in self._records.items() if item[0] not in beside]
        return sorted(found, key=lambda item: item[0])

    def record(self, order: Order) -> Record:
        """One record that is known, without its attachment."""
        with self._lock:
            return self._records[order]

    def attachments(self, orders: Sequence[Order]) -> list[bytes]:
        """The attachments of some records, in one read."""
        with self._lock:
            places = {order: self._places.get(order) for order in orders}
        for order, place in places.items():
            if place is None:
                raise ChunkCorruptError(where=self._uri, expected=f"record {order}", got="none")
        known = {order: place for order, place in places.items() if place is not None}

        def read() -> list[bytes]:
            cells = self._attached([place for place in known.values() if place.n_bytes])
            return [attachment_in(order, known[order], cells_at(cells, known[order])) for order in orders]

        return self._retry(read)

    def _attached(self, places: Sequence[Place]) -> Mapping[int, tuple[np.ndarray, np.ndarray]]:
        """Positions and cells of the batches that some attachments lie in; of a single batch what is needed alone."""
        if not places:
            return {}
        batches = sorted({place.batch for place in places})
        span = slice(None)
        if len(batches) == 1:
            span = slice(min(place.first for place in places), max(p.first + p.n_cells - 1 for p in places))
        with tiledb.open(self._uri, "r", ctx=self._ctx) as array:
            cells = array.multi_index[ATTACHMENTS, batches, span]
        return {batch: (positions, content) for batch, positions, content in batches_of(cells)}

    def append(self, records: Sequence[Record]) -> list[Order]:
        """Write records, all or none of them, above every record seen so far."""
        with self._lock:
            return self._append(records)

    def _append(self, records: Sequence[Record]) -> list[Order]:
        self.refresh()
        first = max((order.counter for order in self._records), default=0) + 1
        orders = [Order(first + i, self._writer) for i in range(len(records))]
        stamp, places = write_records(self._uri, self._ctx, list(zip(orders, records, strict=True)))
        self._own_stamps.add((stamp, stamp))
        for order, record, place in zip(orders, records, places, strict=True):
            self._records[order], self._places[order] = Record(record.kind, record.body), place
        # They are written: that they cannot be read back now is the trouble of whoever reads next.
        with suppress(StoreError):
            self.refresh()
            if len(self._fragments) > self._options.compact_fragments:
                self.compact()
        return orders

    def compact(self) -> None:
        """Merge the fragments into one. Readers that lose a fragment under their hands read again."""
        with translated(self._uri, "compact"):
            try:
                tiledb.consolidate(self._uri, ctx=self._ctx)
                tiledb.vacuum(self._uri, ctx=self._ctx)
            except tiledb.TileDBError:
                # Another process was at it: the log is whole either way, and one of the two has compacted it.
                if not self._commits():
                    raise

    @property
    def uri(self) -> str:
        """Of the array."""
        return self._uri

    def _commits(self) -> frozenset[str]:
        return list_commits(self._uri, self._ctx, self._vfs)

    def _read_new(self, fragments: frozenset[str]) -> list[tuple[Order, Record, Place]]:
        stamps = [fragment_timestamps(name) for name in fragments]
        if self._records and all(stamp is not None for stamp in stamps) and len(stamps) <= 8:
            ranges = [stamp for stamp in stamps if stamp is not None]
        else:
            ranges = [_ALL]
        found: list[tuple[Order, Record, Place]] = []
        for stamp in ranges:
            cells = self._heads(stamp)
            if stamp != _ALL and not len(cells["batch"]):
                # A compaction took the fragment away since it was listed: its records lie in a larger one.
                cells = self._heads(_ALL)
            for batch in batches_of(cells):
                found += records_in(*batch)
        return found

    def _heads(self, timestamps: tuple[int, int]) -> Mapping[str, np.ndarray]:
        with tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=timestamps) as array:
            cells: Mapping[str, np.ndarray] = array.multi_index[HEADS, :, :]
        return cells

    def _retry(self, read: Callable[[], T]) -> T:
        """A compaction in another process may take a fragment away between listing and reading: then read again."""
        fragments: frozenset[str] | None = None
        for attempt in range(_READ_TRIES):
            try:
                with damage_as_error(self._uri, "readable records"):
                    return read()
            except ChunkCorruptError:
                # Damage stays when nobody compacts; a read of damaged sizes can take seconds, so it is not tried often.
                before, fragments = fragments, self._commits()
                if attempt == _READ_TRIES - 1 or fragments == before:
                    raise
                time.sleep(0.02 * 2**attempt)
        raise AssertionError("unreachable")


def write_records(uri: str, ctx: tiledb.Ctx, records: Sequence[tuple[Order, Record]]) -> tuple[int, list[Place]]:
    """Write records at their places, all or none; the timestamp of their fragment, and where attachments lie."""
    coordinates, cells, places = cells_of(records)
    stamp = random_timestamp()
    with translated(uri, "write records to"), tiledb.open(uri, "w", ctx=ctx, timestamp=stamp) as array:
        array[coordinates] = cells
    return stamp, places
