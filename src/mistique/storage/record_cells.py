"""Records as cells of a fixed size: bytes in the order in which they were written, taken apart here and not by TileDB.

Some records lie behind another one, in a part of their own: they are read when that one is asked about, and a log of
many is opened without them (docs/adr/0025).

TileDB believes the offsets of cells of variable length. Where files are damaged or in each other's place it then writes
beyond its memory, and the process dies of it (docs/adr/0020).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError
from mistique.storage.digests import digest_bytes, digest_text

CELL_NBYTES = 256
CELL = np.dtype(f"S{CELL_NBYTES}")
HEADS, BEHIND, ATTACHMENTS = 0, 1, 2
# Larger tiles make a catalog smaller and quicker to read whole; smaller ones, to read the attachments of one capture.
_TILE_CELLS = 1024
_MAX_BATCH, _MAX_POSITION = 2**62, 2**40
_CHECK_NBYTES = 32
# counter, writer, kind, bytes of the body; of what lies behind it the highest counter, the first cell and the bytes;
# first cell and bytes of the attachment; digest of all that and the body
_HEAD = struct.Struct("<Q16s16sQQQQQQ32s")


class Order(NamedTuple):
    """A record's place among all: a counter above the largest its writer had seen, then the writer."""

    counter: int
    writer: str


class Record(NamedTuple):
    """One fact, as JSON, and an attachment that is read only when it is asked for."""

    kind: str
    body: bytes
    attachment: bytes = b""


class Place(NamedTuple):
    """Where an attachment lies, or what is behind a record: cells of a batch."""

    batch: int
    first: int
    n_bytes: int

    @property
    def n_cells(self) -> int:
        """Cells of it."""
        return -(-self.n_bytes // CELL_NBYTES)


class Found(NamedTuple):
    """A record as it lies in a log, without its attachment and without what is behind it."""

    order: Order
    record: Record
    attachment: Place
    behind: Place
    last: int  # the highest counter behind it; its own where there is none


def schema_of_records() -> tiledb.ArraySchema:
    """Of an array of records."""
    zstd = tiledb.FilterList([tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    # Coordinates are runs of consecutive numbers.
    steps = tiledb.FilterList([tiledb.DoubleDeltaFilter(), tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    domain = tiledb.Domain(
        tiledb.Dim("part", domain=(0, 2), tile=1, dtype=np.uint64, filters=steps),
        tiledb.Dim("batch", domain=(0, _MAX_BATCH - 1), tile=_MAX_BATCH, dtype=np.uint64, filters=steps),
        tiledb.Dim("position", domain=(0, _MAX_POSITION - 1), tile=_MAX_POSITION, dtype=np.uint64, filters=steps),
    )
    attr = tiledb.Attr("bytes", dtype=CELL, filters=zstd)
    return tiledb.ArraySchema(domain=domain, attrs=[attr], sparse=True, capacity=_TILE_CELLS)


def cells_of(
    records: Sequence[tuple[Order, Record]], behind: Mapping[Order, Sequence[tuple[Order, Record]]]
) -> tuple[tuple[np.ndarray, ...], np.ndarray, list[Found]]:
    """Some records, and what is to lie behind some of them, as one batch: coordinates, cells, and where each lies."""
    batch = secrets.randbelow(_MAX_BATCH)
    inner, attached = _Cells(batch), _Cells(batch)
    heads: list[bytes] = []
    found: list[Found] = []
    for order, record in records:
        packed = [_pack(one, it, attached, Place(batch, 0, 0), one.counter) for one, it in behind.get(order, ())]
        place = inner.put(b"".join(content for content, _ in packed))
        last = packed[-1][1].order.counter if packed else order.counter
        content, head = _pack(order, record, attached, place, last)
        heads.append(content)
        found += [head, *(one for _, one in packed)]
    first = _Cells(batch)
    content = b"".join(heads)
    first.put(len(content).to_bytes(8, "little") + content)
    sizes = [cells.n_cells for cells in (first, inner, attached)]
    coordinates = (
        np.repeat(np.array([HEADS, BEHIND, ATTACHMENTS], np.uint64), sizes),
        np.full(sum(sizes), batch, np.uint64),
        np.concatenate([np.arange(n, dtype=np.uint64) for n in sizes]),
    )
    return coordinates, np.frombuffer(b"".join([*first.content, *inner.content, *attached.content]), CELL), found


class _Cells:
    """The cells of one part of a batch, as they are filled."""

    def __init__(self, batch: int) -> None:
        self.batch, self.content, self.n_cells = batch, list[bytes](), 0

    def put(self, content: bytes) -> Place:
        """Add bytes, from a new cell on."""
        place = Place(self.batch, self.n_cells, len(content))
        self.content.append(content.ljust(place.n_cells * CELL_NBYTES, b"\0"))
        self.n_cells += place.n_cells
        return place


def _pack(order: Order, record: Record, attached: _Cells, behind: Place, last: int) -> tuple[bytes, Found]:
    """The head and body of a record, its attachment being put among the others."""
    content = _check(order, record.attachment) + record.attachment if record.attachment else b""
    place = attached.put(content)
    names = order.counter, order.writer.encode(), record.kind.encode(), len(record.body)
    numbers = last, behind.first, behind.n_bytes, place.first, place.n_bytes
    head = _HEAD.pack(*names, *numbers, b"")[:-_CHECK_NBYTES]
    check = digest_text(digest_bytes(head + record.body)).encode()
    return head + check + record.body, Found(order, Record(record.kind, record.body), place, behind, last)


def batches_of(cells: Mapping[str, np.ndarray]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The batches in some cells of one part: number, positions, and the bytes of each position, (n, CELL_NBYTES)."""
    batches, positions = cells["batch"], cells["position"]
    content = np.ascontiguousarray(cells["bytes"]).view(np.uint8).reshape(-1, CELL_NBYTES)
    in_order = np.lexsort((positions, batches))
    batches, positions, content = batches[in_order], positions[in_order].astype(np.int64), content[in_order]
    bounds = [*np.flatnonzero(np.diff(batches, prepend=batches[:1] + np.uint64(1))).tolist(), len(batches)]
    for first, last in pairwise(bounds):
        yield int(batches[first]), positions[first:last], content[first:last]


def records_in(batch: int, positions: np.ndarray, content: np.ndarray) -> Iterator[Found]:
    """The records of a batch, each verified, without attachments and without what is behind them.

    Raises
    ------
    ChunkCorruptError
        From there on they are not what was written.
    """
    where = f"records of batch {batch:x}"
    if positions[-1] != len(positions) - 1:  # they are sorted, each is there once
        raise ChunkCorruptError(where=where, expected="all cells", got=f"{len(positions)}, with gaps")
    whole = content.tobytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    if end > len(whole):
        raise ChunkCorruptError(where=where, expected=f"{end} bytes", got=str(len(whole)))
    yield from _unpack(where, batch, whole[8:end])


def records_behind(head: Found, content: np.ndarray) -> Iterator[Found]:
    """The records behind another one, from their cells, each verified.

    Raises
    ------
    ChunkCorruptError
    """
    where, before = f"records behind record {head.order.counter}", head.order.counter
    for found in _unpack(where, head.behind.batch, content.tobytes()[: head.behind.n_bytes]):
        order = found.order
        if order.writer != head.order.writer or not before < order.counter <= head.last or found.behind.n_bytes:
            raise ChunkCorruptError(where=where, expected=f"records up to {head.last}", got=f"record {order.counter}")
        before = order.counter
        yield found


def _unpack(where: str, batch: int, content: bytes) -> Iterator[Found]:
    at = 0
    while at < len(content):
        try:
            counter, writer, kind, n_body, last, *numbers, check = _HEAD.unpack_from(content, at)
            order, name = Order(counter, writer.decode("ascii")), kind.rstrip(b"\0").decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise ChunkCorruptError(where=where, expected="a record", got=str(error)) from error
        head, at = content[at : at + _HEAD.size - _CHECK_NBYTES], at + _HEAD.size
        body, at = content[at : at + n_body], at + n_body
        _verify(f"{where}, record {counter}", head + body, check)
        behind, attachment = Place(batch, *numbers[:2]), Place(batch, *numbers[2:])
        if last < counter or max(behind.first + behind.n_cells, attachment.first + attachment.n_cells) > _MAX_POSITION:
            raise ChunkCorruptError(where=where, expected="places of a record", got=f"{last}, {numbers}")
        yield Found(order, Record(name, body), attachment, behind, last)


def cells_at(cells: Mapping[int, tuple[np.ndarray, np.ndarray]], place: Place) -> np.ndarray:
    """The cells of one place, of those of all.

    Raises
    ------
    ValueError
        Some are missing.
    """
    if not place.n_bytes:
        return np.empty(0, np.uint8)
    positions, content = cells.get(place.batch, (np.empty(0, np.int64), np.empty((0, CELL_NBYTES), np.uint8)))
    if place.n_cells > len(positions):  # a record may claim what it likes
        raise ValueError(f"{len(positions)} cells where {place.n_cells} are said to be")
    first = int(np.searchsorted(positions, place.first))
    wanted = np.arange(place.first, place.first + place.n_cells)
    if not np.array_equal(positions[first : first + place.n_cells], wanted):
        raise ValueError(f"cells {place.first} to {wanted[-1]} are missing")
    return content[first : first + place.n_cells]


def attachment_in(order: Order, place: Place, content: np.ndarray) -> bytes:
    """The attachment of a record from its cells, verified.

    Raises
    ------
    ChunkCorruptError
    """
    if not place.n_bytes:
        return b""
    stored = content.tobytes()[: place.n_bytes]
    check, attachment = stored[:_CHECK_NBYTES], stored[_CHECK_NBYTES:]
    _verify(f"attachment of record {order.counter}", _attached(order, attachment), check)
    return attachment


def _check(order: Order, attachment: bytes) -> bytes:
    return digest_text(digest_bytes(_attached(order, attachment))).encode()


def _attached(order: Order, attachment: bytes) -> bytes:
    """An attachment as its digest is taken: it belongs to its record alone."""
    return f"{order.counter}|{order.writer}|attachment|".encode() + attachment


def _verify(where: str, content: bytes, check: bytes) -> None:
    expected = digest_text(digest_bytes(content)).encode()
    if expected != check:
        raise ChunkCorruptError(where=where, expected=f"digest {expected.decode()}", got=repr(check))
