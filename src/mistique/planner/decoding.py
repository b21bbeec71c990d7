"""Chunks of an intermediate: found by its references, fetched by segment, decoded on threads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np

from mistique.codecs import ALL, Codec, PartCodec, codec_from_config
from mistique.errors import ChunkCorruptError
from mistique.planner.chunk_check import DICTIONARY, Chunk, check_chunk
from mistique.schema import Intermediate, Run
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitTable

# What puts the values of one chunk that were asked for, (n_columns, n_rows), at a block and group where they belong.
Put = Callable[[int, int, np.ndarray], None]
# Where those of a block and group belong, if they lie there as they are decoded: such are not put.
Room = Callable[[int, int], np.ndarray | None]
# Rows of each block that were asked for.
RowsOf = Mapping[int, slice | np.ndarray]
# Where no block is asked for more rows, most of decoding is Python, for which threads would wait for one another.
_FEW_ROWS = 128


def each_chunk(
    segments: SegmentReader,
    intermediate: Intermediate,
    blocks: np.ndarray,
    groups: np.ndarray,
    put: Put,
    rows_of: RowsOf,
    some_of: Mapping[int, np.ndarray] = MappingProxyType({}),
    room: Room = lambda block, group: None,
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
    is_quick = all(_n_rows(rows) <= _FEW_ROWS for rows in rows_of.values())
    worst = 0.0
    waiting: list[Future[float]] = []
    for number, chunks in by_segment.items():
        if not chunks:
            continue
        segment = references.segments[number]
        table = segments.table(segment)
        for units, payloads in segments.unheld_payloads(segment, np.array(sorted(chunks), np.int64)):
            work = list(zip(units.tolist(), payloads, strict=True))
            # The batch before is decoded while this one was read; more would only fill memory.
            worst = max([worst, *(future.result() for future in waiting)])
            decode = partial(_decode, intermediate, numbered, table, segment.id, chunks, rows_of, some_of, put, room)
            waiting = segments.spread(decode, work, is_quick=is_quick)
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


def _decode(
    intermediate: Intermediate,
    numbered: set[int],
    table: UnitTable,
    segment_id: str,
    chunks: dict[int, list[Chunk]],
    rows_of: RowsOf,
    some_of: Mapping[int, np.ndarray],
    put: Put,
    room: Room,
    part: list[tuple[int, np.ndarray]],
) -> float:
    worst = 0.0
    for unit, payload in part:
        table.hold(unit, payload, segment_id)
        kind = table.kinds[int(table.kind_of[unit])]
        shape = int(table.shapes[unit, 0]), int(table.shapes[unit, 1])
        codec, part_codec = _codec(kind.codec)
        column_type, where = kind.type, f"segment {segment_id}, unit {unit}"
        for chunk in chunks[unit]:
            check_chunk(intermediate, chunk, kind, shape, is_numbers=chunk.group in numbered, where=where)
        # Chunks of equal values are one unit, of which each may be asked for other rows and columns.
        first, is_alone = chunks[unit][0], len(chunks[unit]) == 1 and not kind.is_table
        try:
            if is_alone and part_codec is not None:
                columns, rows = some_of.get(first.group, ALL), rows_of[first.block]
                out = room(first.block, first.group)
                values = part_codec.decode_part(payload, shape, column_type, columns=columns, rows=rows, out=out)
                if values is not out:
                    put(first.block, first.group, values)
            else:
                values = codec.decode(payload, shape, column_type)
                for chunk in chunks[unit]:
                    columns = slice(chunk.place, chunk.place + 1) if kind.is_table else some_of.get(chunk.group, ALL)
                    put(chunk.block, chunk.group, values[columns][:, rows_of.get(chunk.block, ALL)])
            worst = max(worst, codec.max_abs_error(payload, column_type))
        except (ValueError, OverflowError) as error:
            raise ChunkCorruptError(where=where, expected=f"a payload of {kind.codec}", got=str(error)) from error
    return worst


@lru_cache(maxsize=256)
def _codec(config: str) -> tuple[Codec, PartCodec | None]:
    """A codec, and the same if it decodes parts: to ask a protocol takes longer than to decode a few rows."""
    codec = codec_from_config(json.loads(config))
    return codec, codec if isinstance(codec, PartCodec) else None
