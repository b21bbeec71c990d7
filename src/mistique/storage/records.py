"""An append-only log of records in one sparse array, ordered without clocks, compacted as it grows."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from threading import RLock
from typing import TypeVar

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, StoreError
from mistique.storage.fragments import (
    ALL_TIME,
    fragment_timestamps,
    list_commits,
    random_timestamp,
    refuse_passed_over,
)
from mistique.storage.making import make_array
from mistique.storage.options import StorageOptions, damage_as_error, translated
from mistique.storage.record_cells import (
    ATTACHMENTS,
    BEHIND,
    HEADS,
    Found,
    Order,
    Place,
    Record,
    attachment_in,
    batches_of,
    cells_at,
    cells_of,
    records_behind,
    records_in,
    schema_of_records,
)
from mistique.storage.soundness import refuse_unsound

T = TypeVar("T")
_READ_TRIES = 5
# More batches than that are read as all.
_MAX_BATCHES = 64


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
        self._uri, self._options = uri, options
        self._ctx, self._vfs = ctx, tiledb.VFS(ctx=ctx)
        self._writer = secrets.token_hex(8)
        # Two threads of one writer must not give two records one place.
        self._lock = RLock()
        self._found: dict[Order, Found] = {}
        self._behind: dict[Order, tuple[Found, ...]] = {}  # as far as they were read
        self._found_behind: dict[Order, Found] = {}
        self._fragments: frozenset[str] = frozenset()
        self._own_stamps: set[tuple[int, int]] = set()
        self.n_changes = 0

    def use(self, ctx: tiledb.Ctx) -> None:
        """Read and write in another context from now on."""
        with self._lock:
            self._ctx, self._vfs = ctx, tiledb.VFS(ctx=ctx)

    def refresh(self) -> None:
        """Read what is new."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        present = self._commits()
        new = present - self._fragments
        if not new:
            return
        if not self._fragments:
            refuse_unsound(self._uri)
        # What this log wrote itself it knows: TileDB would look through the larger fragments for it, too. Another may
        # have drawn the same number: one fragment of it, and that once, is this log's own.
        stamps = Counter(map(fragment_timestamps, new))
        own = {stamp for stamp in self._own_stamps if stamps[stamp] == 1}
        unknown = frozenset(name for name in new if fragment_timestamps(name) not in own)
        for found in self._retry(lambda: self._read_new(unknown)) if unknown else ():
            self._found[found.order] = found
        self._fragments, self._own_stamps = present, self._own_stamps - stamps.keys()
        self.n_changes += 1

    def records(self, *, beside: Container[Order] = ()) -> list[tuple[Order, Record]]:
        """All records known but some and those that lie behind others, oldest first."""
        with self._lock:
            found = [(order, one.record) for order, one in self._found.items() if order not in beside]
        return sorted(found, key=lambda item: item[0])

    def record(self, order: Order) -> Record:
        """One record that is known, without its attachment."""
        with self._lock:
            return self._one(order).record

    def behind(self, orders: Sequence[Order]) -> list[list[tuple[Order, Record]]]:
        """The records that lie behind each of some, in one read, kept.

        Raises
        ------
        ChunkCorruptError
        """
        with self._lock:
            known = {order: self._behind[order] for order in orders if order in self._behind}
            missing = [self._one(order) for order in orders if order not in known]

        def read() -> dict[Order, tuple[Found, ...]]:
            cells = self._cells(BEHIND, [head.behind for head in missing if head.behind.n_bytes])
            return {head.order: tuple(records_behind(head, cells_at(cells, head.behind))) for head in missing}

        read_now = self._retry(read) if missing else {}
        with self._lock:
            for order, found in read_now.items():
                self._behind[order] = known[order] = found
                self._found_behind |= {one.order: one for one in found}
        return [[(one.order, one.record) for one in known[order]] for order in orders]

    def forget(self, order: Order) -> None:
        """Keep what lies behind a record no longer; it is read again when it is asked for."""
        with self._lock:
            for one in self._behind.pop(order, ()):
                self._found_behind.pop(one.order, None)

    def attachments(self, orders: Sequence[Order]) -> list[bytes]:
        """The attachments of some records, in one read."""
        with self._lock:
            places = {order: self._one(order).attachment for order in orders}

        def read() -> list[bytes]:
            cells = self._cells(ATTACHMENTS, [place for place in places.values() if place.n_bytes])
            return [attachment_in(order, places[order], cells_at(cells, places[order])) for order in orders]

        return self._retry(read)

    def _one(self, order: Order) -> Found:
        found = self._found.get(order) or self._found_behind.get(order)
        if found is None:
            raise ChunkCorruptError(where=self._uri, expected=f"record {order}", got="none")
        return found

    def _cells(self, part: int, places: Sequence[Place]) -> Mapping[int, tuple[np.ndarray, np.ndarray]]:
        """Positions and cells of the batches that some places are in; of a single batch what is needed alone."""
        if not places:
            return {}
        batches, span = sorted({place.batch for place in places}), slice(None)
        if len(batches) == 1:
            span = slice(min(place.first for place in places), max(p.first + p.n_cells - 1 for p in places))
        with tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array:
            cells = array.multi_index[part, batches if len(batches) <= _MAX_BATCHES else slice(None), span]
        return {batch: (positions, content) for batch, positions, content in batches_of(cells)}

    def append(self, records: Sequence[Record], *, behind: Sequence[Record] = ()) -> list[Order]:
        """Write records, all or none of them, above every record seen so far.

        Parameters
        ----------
        records : sequence of Record
        behind : sequence of Record, optional
            What lies behind the last of them.

        Returns
        -------
        list of Order
            Of all of them in turn.
        """
        with self._lock:
            return self._append(records, behind)

    def _append(self, records: Sequence[Record], behind: Sequence[Record]) -> list[Order]:
        self.refresh()
        first = max((found.last for found in self._found.values()), default=0) + 1
        orders = [Order(first + i, self._writer) for i in range(len(records) + len(behind))]
        heads, rest = orders[: len(records)], orders[len(records) :]
        kept_back = {heads[-1]: list(zip(rest, behind, strict=True))} if behind else {}
        stamp, written = write_records(self._uri, self._ctx, list(zip(heads, records, strict=True)), kept_back)
        self._own_stamps.add((stamp, stamp))
        by_order = {found.order: found for found in written}
        self._found |= {order: by_order[order] for order in heads}
        self.n_changes += 1
        self._found_behind |= {order: by_order[order] for order in rest}
        self._behind |= {head: tuple(by_order[order] for order, _ in kept) for head, kept in kept_back.items()}
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

    def _read_new(self, fragments: frozenset[str]) -> list[Found]:
        if not self._fragments:
            refuse_passed_over(self._uri, self._ctx)
        stamps = [fragment_timestamps(name) for name in fragments]
        if self._found and all(stamp is not None for stamp in stamps) and len(stamps) <= 8:
            ranges = [stamp for stamp in stamps if stamp is not None]
        else:
            ranges = [ALL_TIME]
        found: list[Found] = []
        for stamp in ranges:
            cells = self._heads(stamp)
            if stamp != ALL_TIME and not len(cells["batch"]):
                # A compaction took the fragment away since it was listed: its records lie in a larger one.
                cells = self._heads(ALL_TIME)
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


def write_records(
    uri: str,
    ctx: tiledb.Ctx,
    records: Sequence[tuple[Order, Record]],
    behind: Mapping[Order, Sequence[tuple[Order, Record]]],
) -> tuple[int, list[Found]]:
    """Write records and what lies behind some, all or none; the timestamp of their fragment, and where each lies."""
    coordinates, cells, found = cells_of(records, behind)
    stamp = random_timestamp()
    with translated(uri, "write records to"), tiledb.open(uri, "w", ctx=ctx, timestamp=stamp) as array:
        array[coordinates] = cells
    return stamp, found
