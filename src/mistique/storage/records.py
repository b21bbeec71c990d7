"""An append-only log of records in one sparse array, ordered without clocks, compacted as it grows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import TypeVar

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, StoreError
from mistique.storage.digests import digest_bytes, digest_text
from mistique.storage.fragments import fragment_timestamps, list_commits, random_timestamp
from mistique.storage.options import StorageOptions, damage_as_error, translated

T = TypeVar("T")
_READ_TRIES = 5
_CHECK_NBYTES = 32
_ALL = (0, 2**63 - 1)


def create_records(uri: str, ctx: tiledb.Ctx) -> None:
    """Make an empty log."""
    # Checksums on coordinates and offsets too: one flipped bit in offsets makes TileDB 2.30 crash the process.
    zstd = tiledb.FilterList([tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    domain = tiledb.Domain(
        tiledb.Dim("counter", domain=(0, 2**62), tile=2**20, dtype=np.uint64, filters=zstd),
        tiledb.Dim("writer", dtype="ascii", filters=zstd),
    )
    attrs = [
        tiledb.Attr(name, dtype=np.dtype("S0"), var=True, filters=zstd)
        for name in ("kind", "body", "attachment", "check")
    ]
    schema = tiledb.ArraySchema(domain=domain, attrs=attrs, sparse=True, capacity=1000, offsets_filters=zstd)
    tiledb.Array.create(uri, schema, ctx=ctx)


@dataclass(frozen=True, slots=True, order=True)
class Order:
    """A record's place among all: a counter above the largest its writer had seen, then the writer."""

    counter: int
    writer: str


@dataclass(frozen=True, slots=True)
class Record:
    """One fact, as JSON, and an attachment that is read only when it is asked for."""

    kind: str
    body: bytes
    attachment: bytes = b""


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
        self._fragments: frozenset[str] = frozenset()

    def refresh(self) -> bool:
        """Read what is new; true if there was anything."""
        with self._lock:
            return self._refresh()

    def _refresh(self) -> bool:
        present = self._commits()
        new = present - self._fragments
        if not new:
            return False
        for order, record in self._retry(lambda: self._read_new(new)):
            self._records[order] = record
        self._fragments = present
        return True

    def records(self) -> list[tuple[Order, Record]]:
        """All records known, oldest first."""
        with self._lock:
            return sorted(self._records.items(), key=lambda item: item[0])

    def record(self, order: Order) -> Record:
        """One record that is known, without its attachment."""
        with self._lock:
            return self._records[order]

    def attachments(self, orders: Sequence[Order]) -> list[bytes]:
        """The attachments of some records, in one read."""
        counters = sorted({order.counter for order in orders})
        writers = sorted({order.writer for order in orders})

        def read() -> dict[Order, bytes]:
            with tiledb.open(self._uri, "r", ctx=self._ctx) as array:
                cells: Mapping[str, np.ndarray] = array.query(attrs=["attachment"]).multi_index[counters, writers]
            return {
                Order(int(counter), bytes(writer).decode()): bytes(stored)
                for counter, writer, stored in zip(cells["counter"], cells["writer"], cells["attachment"], strict=True)
            }

        found = self._retry(read)
        contents = []
        for order in orders:
            if order not in found:
                raise ChunkCorruptError(where=self._uri, expected=f"record {order}", got="none")
            contents.append(attachment_from(found[order], order, uri=self._uri))
        return contents

    def append(self, records: Sequence[Record]) -> list[Order]:
        """Write records, all or none of them, above every record seen so far."""
        with self._lock:
            return self._append(records)

    def _append(self, records: Sequence[Record]) -> list[Order]:
        self.refresh()
        first = max((order.counter for order in self._records), default=0) + 1
        orders = [Order(first + i, self._writer) for i in range(len(records))]
        write_records(self._uri, self._ctx, list(zip(orders, records, strict=True)))
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

    def _read_new(self, fragments: frozenset[str]) -> list[tuple[Order, Record]]:
        stamps = [fragment_timestamps(name) for name in fragments]
        if self._records and all(stamp is not None for stamp in stamps) and len(stamps) <= 8:
            ranges = [stamp for stamp in stamps if stamp is not None]
        else:
            ranges = [_ALL]
        found: list[tuple[Order, Record]] = []
        for stamp in ranges:
            cells = self._cells(stamp)
            if stamp != _ALL and not len(cells["counter"]):
                # A compaction took the fragment away since it was listed: its records lie in a larger one.
                cells = self._cells(_ALL)
            found += [record_at(cells, i, uri=self._uri) for i in range(len(cells["counter"]))]
        return found

    def _cells(self, timestamps: tuple[int, int]) -> Mapping[str, np.ndarray]:
        with tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=timestamps) as array:
            cells: Mapping[str, np.ndarray] = array.query(attrs=["kind", "body", "check"])[:]
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


def write_records(uri: str, ctx: tiledb.Ctx, records: Sequence[tuple[Order, Record]]) -> None:
    """Write records at their places, all or none of them."""
    counters = np.array([order.counter for order, _ in records], np.uint64)
    with translated(uri, "write records to"), tiledb.open(uri, "w", ctx=ctx, timestamp=random_timestamp()) as array:
        array[counters, [order.writer for order, _ in records]] = {
            "kind": _bytes_array(record.kind.encode() for _, record in records),
            "body": _bytes_array(record.body for _, record in records),
            "attachment": _bytes_array(
                _check_of(order, "attachment", record.attachment) + record.attachment for order, record in records
            ),
            "check": _bytes_array(_check_of(order, record.kind, record.body) for order, record in records),
        }


def record_at(cells: Mapping[str, np.ndarray], i: int, *, uri: str) -> tuple[Order, Record]:
    """One of the records in some cells, without its attachment, verified."""
    order = Order(int(cells["counter"][i]), bytes(cells["writer"][i]).decode())
    record = Record(bytes(cells["kind"][i]).decode(), bytes(cells["body"][i]))
    _verify(uri, order, record.kind, record.body, bytes(cells["check"][i]))
    return order, record


def attachment_from(stored: bytes, order: Order, *, uri: str) -> bytes:
    """The attachment of a record from what is stored of it, verified."""
    check, content = stored[:_CHECK_NBYTES], stored[_CHECK_NBYTES:]
    _verify(uri, order, "attachment", content, check)
    return content


def _check_of(order: Order, kind: str, content: bytes) -> bytes:
    head = f"{order.counter}|{order.writer}|{kind}|".encode()
    return digest_text(digest_bytes(head + content)).encode()


def _verify(uri: str, order: Order, kind: str, content: bytes, check: bytes) -> None:
    expected = _check_of(order, kind, content)
    if expected != check:
        raise ChunkCorruptError(
            where=f"{uri}, record {order.counter}", expected=f"digest {expected.decode()}", got=repr(check)
        )


def _bytes_array(values: object) -> np.ndarray:
    listed = list(values)  # type: ignore[call-overload]
    array = np.empty(len(listed), object)
    array[:] = listed
    return array
