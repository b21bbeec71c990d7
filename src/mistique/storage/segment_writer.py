"""Segments: arrays of bytes that hold encoded units, written once.

Payloads are encoded before they come here, so TileDB only carries them: one array, one dimension, no filters
(docs/adr/0014). The table of the units lies behind the payloads.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import tiledb

from mistique.schema import Part, Segment
from mistique.storage.digests import digest_bytes, digest_text, seal
from mistique.storage.layout import Layout
from mistique.storage.options import StorageOptions, translated
from mistique.storage.units import ALIGNMENT, LaidUnit, Unit, UnitTable, compressed

# Cells of 8 bytes: TileDB keeps statistics of each cell, and one byte a cell took 2 to 3 times the time.
_CELL = np.dtype(np.uint64)
_DOMAIN = (0, 2**60)
_MIN_TILE_NBYTES, _MAX_TILE_NBYTES = 4 * 1024, 64 * 1024
SEGMENT_SEAL = "segment"


class SegmentWriter:
    """Writes one segment; nothing of it can be seen before a record refers to it. One thread at a time.

    It is sealed: this user vouches for the digests that it holds, so they are never copied from what another wrote.
    """

    def __init__(self, layout: Layout, ctx: tiledb.Ctx, options: StorageOptions) -> None:
        self.id = secrets.token_hex(16)
        self._uri, self._ctx = layout.segment(self.id), ctx
        # Without their payloads: these go once they are written, however long the capture.
        self._units: list[LaidUnit] = []
        self._pending: list[np.ndarray] = []
        self._end = 0
        self._tile_nbytes = 0
        self.pending_nbytes = 0

    @property
    def n_units(self) -> int:
        """Units taken so far."""
        return len(self._units)

    @property
    def is_begun(self) -> bool:
        """Something was written, or should have been."""
        return self._tile_nbytes > 0

    def append(self, unit: Unit) -> int:
        """Take a unit; its number. It is written by the next `flush`."""
        self._units.append(LaidUnit.of(unit, self._end))
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
        table = UnitTable.of(self._units)
        contents = [unit.contents for unit in self._units]
        parts = {
            "units": self._put_part(table.to_bytes()),
            "contents": self._put_part(compressed(np.concatenate(contents).tobytes())),
        }
        facts = {"n_units": table.n_units, "n_chunks": table.n_chunks, **parts}
        said = json.dumps(facts, default=asdict)
        self._write({"facts": said, "seal": seal(SEGMENT_SEAL, self.id.encode(), said.encode())})
        with translated(self._uri, "measure segment"):
            encoded_nbytes = tiledb.VFS(ctx=self._ctx).dir_size(self._uri)
        return Segment(self.id, table.n_units, table.n_chunks, **parts, encoded_nbytes=encoded_nbytes)

    def discard(self) -> None:
        """Take it away again, as far as that can be done: what stays is garbage that no record refers to."""
        if self.is_begun:
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
            if not self.is_begun:
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
