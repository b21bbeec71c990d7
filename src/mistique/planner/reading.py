"""Stored chunks to values: which of them are needed, and where what each holds belongs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np

from mistique.ingest.cells import Column
from mistique.kernels.look_up import look_up_numbers
from mistique.kernels.transpose import turn, turn_units
from mistique.planner.chunk_check import DICTIONARY, cell_of
from mistique.planner.decoding import Room, each_chunk
from mistique.planner.read_work import chunks_of
from mistique.planner.summary import read_whole_shape
from mistique.planner.values import Values, array_places
from mistique.schema import Intermediate
from mistique.storage.options import damage_as_error
from mistique.storage.segments import SegmentReader

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

    worst = each_chunk(segments, intermediate, blocks, groups, put, rows_of)
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

    worst = each_chunk(segments, intermediate, blocks, groups, put, rows_of, some_of)
    return Values(intermediate, columns, out.reshape(len(rows), *shape)), worst


def _read_columns(
    segments: SegmentReader, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    """As `_read_array`, of the same shape, without turning: chunks are put beside one another as they are."""
    out = segments.lender.array((len(columns), len(rows)), intermediate.types[0].cell)
    blocks, groups = chunks_of(intermediate, rows, columns)
    rows_at, rows_of = _wanted_rows(intermediate, rows, blocks)
    span_of, some_of = _wanted_columns(intermediate, columns, groups)

    def put(block: int, group: int, chunk: np.ndarray) -> None:
        out[slice(*span_of[group]), rows_at[block]] = chunk

    worst = each_chunk(segments, intermediate, blocks, groups, put, rows_of, some_of, Room(out, span_of, rows_at))
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
