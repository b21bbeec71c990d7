"""Records as cells of a fixed size: bytes in the order in which they were written, taken apart here and not by TileDB.

TileDB believes the offsets of cells of variable length. Where files are damaged or in each other's place it then writes
beyond its memory, and the process dies of it (docs/adr/0020).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError
from mistique.storage.digests import digest_bytes, digest_text

CELL_NBYTES = 64
CELL = np.dtype(f"S{CELL_NBYTES}")
HEADS, ATTACHMENTS = 0, 1
# Larger tiles make a catalog smaller and quicker to read whole; smaller ones, to read the attachments of one capture.
_TILE_CELLS = 1024
_MAX_BATCH, _MAX_POSITION = 2**62, 2**40
_CHECK_NBYTES = 32
# counter, writer, kind, bytes of the body, bytes of the attachment, digest of all that and the body
_HEAD = struct.Struct("<Q16s16sQQ32s")


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where the attachment of a record lies: cells of a batch."""

    batch: int
    first: int
    n_bytes: int

    @property
    def n_cells(self) -> int:
        """Cells of it."""
        return -(-self.n_bytes // CELL_NBYTES)


def schema_of_records() -> tiledb.ArraySchema:
    """Of an array of records."""
    zstd = tiledb.FilterList([tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    # Coordinates are runs of consecutive numbers.
    steps = tiledb.FilterList([tiledb.DoubleDeltaFilter(), tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    domain = tiledb.Domain(
        tiledb.Dim("part", domain=(0, 1), tile=1, dtype=np.uint64, filters=steps),
        tiledb.Dim("batch", domain=(0, _MAX_BATCH - 1), tile=_MAX_BATCH, dtype=np.uint64, filters=steps),
        tiledb.Dim("position", domain=(0, _MAX_POSITION - 1), tile=_MAX_POSITION, dtype=np.uint64, filters=steps),
    )
    attr = tiledb.Attr("bytes", dtype=CELL, filters=zstd)
    return tiledb.ArraySchema(domain=domain, attrs=[attr], sparse=True, capacity=_TILE_CELLS)


def cells_of(records: Sequence[tuple[Order, Record]]) -> tuple[tuple[np.ndarray, ...], np.ndarray, list[Place]]:
    """Some records as one batch: coordinates, cells, and where the attachment of each will lie."""
    batch = secrets.randbelow(_MAX_BATCH)
    heads: list[bytes] = []
    attachments: list[bytes] = []
    places: list[Place] = []
    n_cells = 0
    for order, record in records:
        stored = b""
        if record.attachment:
            stored = _check(order, "attachment", record.attachment) + record.attachment
        numbers = order.counter, order.writer.encode(), record.kind.encode(), len(record.body), len(stored)
        head = _HEAD.pack(*numbers, _check(order, f"{record.kind}|{len(stored)}", record.body))
        heads += [head, record.body]
        places.append(Place(batch, n_cells, len(stored)))
        n_cells += places[-1].n_cells
        attachments.append(stored.ljust(places[-1].n_cells * CELL_NBYTES, b"\0"))
    content = b"".join(heads)
    content = len(content).to_bytes(8, "little") + content
    parts = [content.ljust(-(-len(content) // CELL_NBYTES) * CELL_NBYTES, b"\0"), b"".join(attachments)]
    sizes = [len(part) // CELL_NBYTES for part in parts]
    coordinates = (
        np.repeat(np.array([HEADS, ATTACHMENTS], np.uint64), sizes),
        np.full(sum(sizes), batch, np.uint64),
        np.concatenate([np.arange(n, dtype=np.uint64) for n in sizes]),
    )
    return coordinates, np.frombuffer(b"".join(parts), CELL), places


def batches_of(cells: Mapping[str, np.ndarray]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The batches in some cells of one part: number, positions, and the bytes of each position, (n, CELL_NBYTES)."""
    batches, positions = cells["batch"], cells["position"]
    content = np.ascontiguousarray(cells["bytes"]).view(np.uint8).reshape(-1, CELL_NBYTES)
    in_order = np.lexsort((positions, batches))
    bounds = np.flatnonzero(np.diff(batches[in_order], prepend=batches[in_order][:1] + np.uint64(1)))
    for number, rows in enumerate(np.split(in_order, bounds[1:]) if len(in_order) else []):
        yield int(batches[in_order[bounds[number]]]), positions[rows].astype(np.int64), content[rows]


def records_in(batch: int, positions: np.ndarray, content: np.ndarray) -> Iterator[tuple[Order, Record, Place]]:
    """The records of a batch, each verified, without their attachments.

    Raises
    ------
    ChunkCorruptError
        From there on they are not what was written.
    """
    where = f"records of batch {batch:x}"
    if not np.array_equal(positions, np.arange(len(positions))):
        raise ChunkCorruptError(where=where, expected="all cells", got=f"{len(positions)}, with gaps")
    whole = content.tobytes()
    end, at, n_cells = 8 + int.from_bytes(whole[:8], "little"), 8, 0
    if end > len(whole):
        raise ChunkCorruptError(where=where, expected=f"{end} bytes", got=str(len(whole)))
    while at < end:
        try:
            counter, writer, kind, n_body, n_attachment, check = _HEAD.unpack_from(whole, at)
            order, name = Order(counter, writer.decode("ascii")), kind.rstrip(b"\0").decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise ChunkCorruptError(where=where, expected="a record", got=str(error)) from error
        at += _HEAD.size
        body = whole[at : min(at + n_body, end)]
        at += n_body
        _verify(where, order, f"{name}|{n_attachment}", body, check)
        place = Place(batch, n_cells, n_attachment)
        n_cells += place.n_cells
        yield order, Record(name, body), place


def cells_at(cells: Mapping[int, tuple[np.ndarray, np.ndarray]], place: Place) -> np.ndarray:
    """The cells of one attachment, of those of all.

    Raises
    ------
    ValueError
        Some are missing.
    """
    if not place.n_bytes:
        return np.empty(0, np.uint8)
    positions, content = cells.get(place.batch, (np.empty(0, np.int64), np.empty((0, CELL_NBYTES), np.uint8)))
    if place.n_cells > len(positions):  # a record may claim what it likes
        raise ValueError(f"{len(positions)} cells for an attachment of {place.n_cells}")
    first = int(np.searchsorted(positions, place.first))
    wanted = np.arange(place.first, place.first + place.n_cells)
    if not np.array_equal(positions[first : first + place.n_cells], wanted):
        raise ValueError(f"cells {place.first} to {wanted[-1]} of an attachment are missing")
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
    _verify(f"record {order.counter}", order, "attachment", attachment, check)
    return attachment


def _check(order: Order, kind: str, content: bytes) -> bytes:
    head = f"{order.counter}|{order.writer}|{kind}|".encode()
    return digest_text(digest_bytes(head + content)).encode()


def _verify(where: str, order: Order, kind: str, content: bytes, check: bytes) -> None:
    expected = _check(order, kind, content)
    if expected != check:
        raise ChunkCorruptError(
            where=f"{where}, record {order.counter}", expected=f"digest {expected.decode()}", got=repr(check)
        )
