"""Stored chunks to values: fetched by segment, decoded on threads, put where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from types import MappingProxyType

import numpy as np

from mistique.codecs import ALL, Codec, PartCodec, codec_from_config
from mistique.errors import ChunkCorruptError
from mistique.ingest.cells import Column
from mistique.kernels.look_up import look_up_numbers
from mistique.kernels.transpose import turn, turn_units
from mistique.planner.chunk_check import DICTIONARY, Chunk, cell_of, check_chunk
from mistique.planner.question import chunks_of
from mistique.planner.summary import read_whole_shape
from mistique.planner.values import Values, array_places
from mistique.schema import Intermediate, Run
from mistique.storage.options import damage_as_error
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitTable

# What puts the values of one chunk that were asked for, (n_columns, n_rows), at a block and group where they belong.
Put = Callable[[int, int, np.ndarray], None]
# Rows of each block that were asked for.
RowsOf = Mapping[int, slice | np.ndarray]
_FEW_UNITS = 8


def read(
    segments: SegmentReader,
    intermediate: Intermediate,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    by_column: bool = False,
) -> tuple[Values, float]:
    """Stored values, verified, and their error bound.

    Parameters
    ----------
    segments : SegmentReader
    intermediate : Intermediate
        With its references.
    rows, columns : ndarray of int64, sorted
    by_column : bool
        Cells of a layer lie as they are stored, those of a column together; else those of a row.

    Raises
    ------
    ChunkCorruptError
    """
    by_row = _read_table if intermediate.is_table else _read_array
    road = _read_columns if by_column and not intermediate.is_table else by_row
    return read_whole_shape(partial(road, segments), intermediate, rows, columns)


def _read_table(
    segments: SegmentReader, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    cells: dict[int, np.ndarray] = {}
    blocks, groups = chunks_of(intermediate, rows, columns)
    references = intermediate.references
    assert references is not None
    numbered = {dictionary.group for dictionary in references.dictionaries}
    values: dict[int, np.ndarray] = {}
    # Columns of one type lie side by side: an answer of them needs no copy.
    kinds = {cell_of(intermediate, group) for group in columns.tolist()}
    together = np.empty((len(columns), len(rows)), kinds.pop()) if len(kinds) == 1 and kinds != {"<U0"} else None
    place_of = {group: i for i, group in enumerate(columns.tolist())} if together is not None else {}
    for group in groups.tolist():
        cell = cell_of(intermediate, group)
        if together is not None and group in place_of and group not in numbered:
            cells[group] = together[place_of[group]]
        else:
            cells[group] = np.empty(len(rows), np.uint32 if group in numbered else object if cell == "<U0" else cell)
    places, rows_of = _wanted_rows(intermediate, rows, blocks)

    def put(block: int, group: int, chunk: np.ndarray) -> None:
        if block == DICTIONARY:
            values[group] = chunk[0]
        else:
            cells[group][places[block]] = chunk[0]

    worst = _each_chunk(segments, intermediate, blocks, groups, put, rows_of)
    for group, distinct in values.items():
        with damage_as_error(f"column {group} of {intermediate.name!r}", "numbers of its values"):
            if together is not None and group in place_of:
                cells[group] = _of_numbers(distinct, cells[group], together[place_of[group]])
            else:
                cells[group] = distinct[cells[group]]
    parts = []
    for column in columns.tolist():
        mask = intermediate.mask_groups.get(column)
        valid = None if mask is None else cells[mask].astype(bool)
        parts.append(Column(cells[column], valid, intermediate.type_of(column)))
    return Values(intermediate, columns, parts), worst


def _of_numbers(distinct: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The values that numbers stand for."""
    bits = np.dtype(f"u{out.itemsize}")
    if not (len(distinct) and look_up_numbers(numbers, distinct.view(bits), out.view(bits))):
        raise IndexError(f"number {numbers.max(initial=0)} of {len(distinct)} values")
    return out


def _read_array(
    segments: SegmentReader, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    shape, places = array_places(intermediate, columns)
    cell = np.dtype(intermediate.types[0].cell)
    bits = np.dtype(f"u{cell.itemsize}")
    out = np.empty((len(rows), len(columns)), cell)
    blocks, groups = chunks_of(intermediate, rows, columns)
    rows_at, rows_of = _wanted_rows(intermediate, rows, blocks)
    span_of, some_of = _wanted_columns(intermediate, columns, groups)
    width = intermediate.group_columns
    assembling: dict[int, _Assembling] = {}
    lock = Lock()
    # Chunks of some units are turned one by one, while they lie in the cache: a row block does not.
    n_positions = shape[0] if len(shape) == 2 else 0
    is_by_unit = n_positions > 0 and width % n_positions == 0
    is_by_unit = is_by_unit and len(columns) > _FEW_UNITS * n_positions * len(groups)
    by_unit = out.reshape(len(rows), *shape).view(bits)

    def put(block: int, group: int, chunk: np.ndarray) -> None:
        place = rows_at[block]
        top, bottom = span_of[group]
        if is_by_unit:
            turn_units(np.ascontiguousarray(chunk).view(bits), top // n_positions, by_unit[place])
            return
        with lock:
            whole = assembling.get(block)
            if whole is None:
                cells = np.empty((len(columns), place.stop - place.start), cell)
                whole = assembling[block] = _Assembling(cells, len(groups))
        whole.columns[places[top:bottom]] = chunk
        with lock:
            whole.n_missing -= 1
            is_whole = not whole.n_missing
            if is_whole:
                del assembling[block]
        if is_whole:
            turn(whole.columns.view(bits), 0, out[place].view(bits))

    worst = _each_chunk(segments, intermediate, blocks, groups, put, rows_of, some_of)
    return Values(intermediate, columns, out.reshape(len(rows), *shape)), worst


def _read_columns(
    segments: SegmentReader, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    """As `_read_array`, of the same shape, without turning: chunks are put beside one another as they are."""
    out = np.empty((len(columns), len(rows)), intermediate.types[0].cell)
    blocks, groups = chunks_of(intermediate, rows, columns)
    rows_at, rows_of = _wanted_rows(intermediate, rows, blocks)
    span_of, some_of = _wanted_columns(intermediate, columns, groups)

    def put(block: int, group: int, chunk: np.ndarray) -> None:
        out[slice(*span_of[group]), rows_at[block]] = chunk

    worst = _each_chunk(segments, intermediate, blocks, groups, put, rows_of, some_of)
    return Values.of_columns(intermediate, columns, out), worst


def _wanted_columns(
    intermediate: Intermediate, columns: np.ndarray, groups: np.ndarray
) -> tuple[dict[int, tuple[int, int]], dict[int, np.ndarray]]:
    """For each group: which of the columns asked it holds, and which of its own these are, where they are not all."""
    span_of: dict[int, tuple[int, int]] = {}
    some_of: dict[int, np.ndarray] = {}
    width = intermediate.group_columns
    for group in groups.tolist():
        top, bottom = np.searchsorted(columns, [group * width, (group + 1) * width]).tolist()
        span_of[group] = top, bottom
        if bottom - top < min(width, intermediate.n_columns - group * width):
            some_of[group] = columns[top:bottom] - group * width
    return span_of, some_of


@dataclass(eq=False)
class _Assembling:
    """A row block on its way from chunks to rows."""

    columns: np.ndarray  # (n_columns, n_rows)
    n_missing: int


def _wanted_rows(
    intermediate: Intermediate, rows: np.ndarray, blocks: np.ndarray
) -> tuple[dict[int, slice], dict[int, slice | np.ndarray]]:
    """For each block: which of the rows asked it holds, and which of its own rows they are."""
    places: dict[int, slice] = {}
    rows_of: dict[int, slice | np.ndarray] = {}
    height = intermediate.block_rows
    for block in blocks.tolist():
        low, high = np.searchsorted(rows, [block * height, (block + 1) * height]).tolist()
        in_block = rows[low:high] - block * height
        first, last = int(in_block[0]), int(in_block[-1])
        places[block] = slice(low, high)
        rows_of[block] = slice(first, last + 1) if last - first + 1 == len(in_block) else in_block
    return places, rows_of


def _each_chunk(
    segments: SegmentReader,
    intermediate: Intermediate,
    blocks: np.ndarray,
    groups: np.ndarray,
    put: Put,
    rows_of: RowsOf,
    some_of: Mapping[int, np.ndarray] = MappingProxyType({}),
) -> float:
    """Decode every chunk at these blocks and groups and hand what was asked of it to `put`, from several threads.

    Of a group in `some_of` the columns with these numbers alone; the error bound comes back.
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
    worst = 0.0
    waiting: list[Future[float]] = []
    for number, chunks in by_segment.items():
        if not chunks:
            continue
        segment = references.segments[number]
        table = segments.table(segment)
        for units, payloads in segments.payloads(segment, np.array(sorted(chunks), np.int64)):
            work = list(zip(units.tolist(), payloads, strict=True))
            # The batch before is decoded while this one was read; more would only fill memory.
            worst = max([worst, *(future.result() for future in waiting)])
            decode = partial(_decode, intermediate, numbered, table, segment.id, chunks, rows_of, some_of, put)
            waiting = segments.spread(decode, work)
    return max([worst, *(future.result() for future in waiting)])


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
    part: list[tuple[int, np.ndarray]],
) -> float:
    worst = 0.0
    for unit, payload in part:
        kind = table.kinds[int(table.kind_of[unit])]
        shape = int(table.shapes[unit, 0]), int(table.shapes[unit, 1])
        codec, part_codec = _codec(kind.codec)
        for chunk in chunks[unit]:
            where = f"segment {segment_id}, unit {unit}"
            check_chunk(intermediate, chunk, kind, shape, is_numbers=chunk.group in numbered, where=where)
        # Chunks of equal values are one unit, of which each may be asked for other rows and columns.
        first, is_alone = chunks[unit][0], len(chunks[unit]) == 1 and not kind.is_table
        try:
            if is_alone and part_codec is not None:
                columns, rows = some_of.get(first.group, ALL), rows_of[first.block]
                values = part_codec.decode_part(payload, shape, kind.type, columns=columns, rows=rows)
                put(first.block, first.group, values)
            else:
                values = codec.decode(payload, shape, kind.type)
                for chunk in chunks[unit]:
                    columns = slice(chunk.place, chunk.place + 1) if kind.is_table else some_of.get(chunk.group, ALL)
                    put(chunk.block, chunk.group, values[columns][:, rows_of.get(chunk.block, ALL)])
            worst = max(worst, codec.max_abs_error(payload, kind.type))
        except (ValueError, OverflowError) as error:
            where = f"segment {segment_id}, unit {unit}"
            raise ChunkCorruptError(where=where, expected=f"a payload of {kind.codec}", got=str(error)) from error
    return worst


@lru_cache(maxsize=256)
def _codec(config: str) -> tuple[Codec, PartCodec | None]:
    """A codec, and the same if it decodes parts: to ask a protocol takes longer than to decode a few rows."""
    codec = codec_from_config(json.loads(config))
    return codec, codec if isinstance(codec, PartCodec) else None
