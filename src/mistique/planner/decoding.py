"""Chunks of an intermediate: found by its references, fetched by segment, decoded on threads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from mistique.codecs import ALL, ChunksCodec, Codec, PartCodec, codec_from_config
from mistique.errors import ChunkCorruptError
from mistique.planner.chunk_check import DICTIONARY, Chunk, check_chunk
from mistique.schema import Intermediate, Run
from mistique.storage.payloads import Payloads
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitKind, UnitTable

# What puts the values of one chunk that were asked for, (n_columns, n_rows), at a block and group where they belong.
Put = Callable[[int, int, np.ndarray], None]
# Rows of each block that were asked for.
RowsOf = Mapping[int, slice | np.ndarray]
# Where no chunk is asked for more, most of decoding is Python, for which threads would wait for one another.
_FEW_ROWS, _FEW_CELLS = 128, 16 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """Where values lie as they are decoded: such are not put.

    Parameters
    ----------
    cells : ndarray of shape (n_columns, n_rows)
    columns_of, rows_of : mapping
        Where in it the columns of a group lie, and the rows of a block.
    """

    cells: np.ndarray
    columns_of: Mapping[int, tuple[int, int]]
    rows_of: Mapping[int, slice]

    def of(self, chunk: Chunk) -> np.ndarray:
        """What a chunk takes."""
        return self.cells[slice(*self.columns_of[chunk.group]), self.rows_of[chunk.block]]

    def corner(self, chunk: Chunk) -> tuple[int, int]:
        """Its first column and row."""
        return self.columns_of[chunk.group][0], self.rows_of[chunk.block].start


def each_chunk(
    segments: SegmentReader,
    intermediate: Intermediate,
    blocks: np.ndarray,
    groups: np.ndarray,
    put: Put,
    rows_of: RowsOf,
    some_of: Mapping[int, np.ndarray] = MappingProxyType({}),
    room: Room | None = None,
) -> float:
    """Decode every chunk at these blocks and groups and hand what was asked of it to `put`, from several threads.

    Of a group in `some_of` the columns with these numbers alone; the error bound comes back. What a codec could write
    to its `room` is not put.
    """
    references = intermediate.references
    assert references is not None
    by_segment: dict[int, dict[int, list[Chunk]]] = {}
    n_found = 0
    for run in references.runs:
        n_found += _collect(run, blocks, groups, by_segment.setdefault(run.segment, {}))
    if n_found != len(blocks) * len(groups):
        raise ChunkCorruptError(
            where=f"references of {intermediate.name!r}",
            expected=f"{len(blocks)} blocks of {len(groups)} groups",
            got=f"{n_found} chunks",
        )
    asked = set(groups.tolist())
    for values in references.dictionaries:
        if values.group in asked:
            chunk = Chunk(DICTIONARY, values.group, values.place)
            by_segment.setdefault(values.segment, {}).setdefault(values.unit, []).append(chunk)
    numbered = {values.group for values in references.dictionaries}
    n_rows = max(map(_n_rows, rows_of.values()), default=0)
    whole = range(1 if intermediate.is_table else intermediate.group_columns)
    width = max((len(some_of.get(group, whole)) for group in asked), default=0)
    is_quick = n_rows <= _FEW_ROWS and n_rows * width <= _FEW_CELLS
    worst = 0.0
    waiting: list[Future[float]] = []
    for number, chunks in by_segment.items():
        if not chunks:
            continue
        segment = references.segments[number]
        table = segments.table(segment)
        for units, payloads in segments.unheld_payloads(segment, np.array(sorted(chunks), np.int64)):
            # The batch before is decoded while this one was read; more would only fill memory.
            worst = max([worst, *(future.result() for future in waiting)])
            batch = _Batch(
                intermediate, numbered, table, segment.id, chunks, rows_of, some_of, put, room, units, payloads
            )
            waiting = segments.spread(batch.decode, list(range(len(units))), is_quick=is_quick)
    return max([worst, *(future.result() for future in waiting)])


def _n_rows(rows: slice | np.ndarray) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _collect(run: Run, blocks: np.ndarray, groups: np.ndarray, chunks: dict[int, list[Chunk]]) -> int:
    """Note which unit of a run holds which chunk; the number of chunks."""
    in_blocks = blocks[(blocks >= run.block) & (blocks < run.block + run.n_blocks)]
    in_groups = groups[(groups >= run.group) & (groups < run.group + run.n_groups)]
    for block in in_blocks.tolist():
        first = run.unit + (block - run.block) * run.block_step
        for group in in_groups.tolist():
            j = group - run.group
            chunk = Chunk(block, group, run.place + j * run.place_step)
            chunks.setdefault(first + j * run.group_step, []).append(chunk)
    return len(in_blocks) * len(in_groups)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What was read of a segment at once, and what was asked of it; fields as in `each_chunk`."""

    intermediate: Intermediate
    numbered: set[int]
    table: UnitTable
    segment_id: str
    chunks: dict[int, list[Chunk]]
    rows_of: RowsOf
    some_of: Mapping[int, np.ndarray]
    put: Put
    room: Room | None
    units: np.ndarray
    payloads: Payloads

    def decode(self, part: list[int]) -> float:
        """Some of it, by number; the largest error comes back."""
        within = slice(part[0], part[-1] + 1)
        units, payloads = self.units[within], self.payloads[within]
        self.table.hold(units, payloads, self.segment_id)
        kinds, shapes = self.table.kind_of[units].tolist(), self.table.shapes[units]
        whole: dict[int, list[int]] = {}
        for at, (unit, kind, shape) in enumerate(zip(units.tolist(), kinds, shapes.tolist(), strict=True)):
            self._check(unit, self.table.kinds[kind], (shape[0], shape[1]))
            if self.room is not None and self._is_whole(unit, self.table.kinds[kind], shape[1]):
                whole.setdefault(kind, []).append(at)
        is_decoded, worst = np.zeros(len(units), bool), 0.0
        for kind, numbers in whole.items():
            assert self.room is not None
            codec, _ = _codec(self.table.kinds[kind].codec)
            if len(numbers) > 1 and isinstance(codec, ChunksCodec):
                places = np.stack([payloads.begins[numbers], payloads.n_bytes[numbers]], axis=1)
                found, error = codec.decode_chunks(
                    payloads.content,
                    places,
                    shapes[numbers],
                    self.table.kinds[kind].type,
                    out=self.room.cells,
                    corners=np.array([self.room.corner(self.chunks[unit][0]) for unit in units[numbers].tolist()]),
                )
                is_decoded[numbers], worst = found, max(worst, error)
        for at in np.flatnonzero(~is_decoded).tolist():
            shape = int(shapes[at, 0]), int(shapes[at, 1])
            worst = max(worst, self._decode_one(int(units[at]), payloads[at], self.table.kinds[kinds[at]], shape))
        return worst

    def _check(self, unit: int, kind: UnitKind, shape: tuple[int, int]) -> None:
        for chunk in self.chunks[unit]:
            is_numbers, where = chunk.group in self.numbered, f"segment {self.segment_id}, unit {unit}"
            check_chunk(self.intermediate, chunk, kind, shape, is_numbers=is_numbers, where=where)

    def _is_whole(self, unit: int, kind: UnitKind, n_rows: int) -> bool:
        """It is one chunk, of which all was asked."""
        first, *others = self.chunks[unit]
        if others or kind.is_table or first.group in self.some_of:
            return False
        rows = self.rows_of[first.block]
        return isinstance(rows, slice) and rows.start == 0 and rows.stop == n_rows

    def _decode_one(self, unit: int, payload: np.ndarray, kind: UnitKind, shape: tuple[int, int]) -> float:
        codec, part_codec = _codec(kind.codec)
        column_type, chunks = kind.type, self.chunks[unit]
        # Chunks of equal values are one unit, of which each may be asked for other rows and columns.
        first, is_alone = chunks[0], len(chunks) == 1 and not kind.is_table
        try:
            if is_alone and part_codec is not None:
                columns, rows = self.some_of.get(first.group, ALL), self.rows_of[first.block]
                out = None if self.room is None else self.room.of(first)
                values = part_codec.decode_part(payload, shape, column_type, columns=columns, rows=rows, out=out)
                if values is not out:
                    self.put(first.block, first.group, values)
            else:
                values = codec.decode(payload, shape, column_type)
                for chunk in chunks:
                    at = slice(chunk.place, chunk.place + 1) if kind.is_table else self.some_of.get(chunk.group, ALL)
                    self.put(chunk.block, chunk.group, values[at][:, self.rows_of.get(chunk.block, ALL)])
            return codec.max_abs_error(payload, column_type)
        except (ValueError, OverflowError) as error:
            where = f"segment {self.segment_id}, unit {unit}"
            raise ChunkCorruptError(where=where, expected=f"a payload of {kind.codec}", got=str(error)) from error


@lru_cache(maxsize=256)
def _codec(config: str) -> tuple[Codec, PartCodec | None]:
    """A codec, and the same if it decodes parts: to ask a protocol takes longer than to decode a few rows."""
    codec = codec_from_config(json.loads(config))
    return codec, codec if isinstance(codec, PartCodec) else None
