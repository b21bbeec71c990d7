"""How much of what is stored a read touches: ranges, payloads, bytes and values, counted before it is made."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from mistique.codecs import stored_form
from mistique.kernels.distinct import distinct
from mistique.planner.cost import ReadWork
from mistique.planner.question import Question, TableOf, steps_of
from mistique.planner.summary import stored_columns
from mistique.schema import Intermediate, References
from mistique.storage.segments import GAP_NBYTES
from mistique.storage.units import UnitTable

# A text takes as long as so many numbers: 300 ns against 5 to be decoded, with all of its chunk, and 200 against 10 to
# be given as an object of Python.
_DECODED_TEXT, _GIVEN_TEXT = 60, 20
# Of numbers, by their bytes, against one of 4 or 2.
_DECODED_NUMBER = {1: 0.5, 8: 2.0}
# Fewer are added up one by one in half the time.
_FEW = 64


def read_work(
    node: Intermediate,
    rows: np.ndarray,
    columns: np.ndarray | None,
    *,
    table_of: TableOf | None = None,
    by_column: bool = False,
) -> ReadWork:
    """What reading some rows and columns of a stored intermediate is made of.

    Parameters
    ----------
    node : Intermediate
    rows, columns : ndarray of int64, sorted
        None: all columns, of which a layer may have millions that need not be numbered.
    table_of : callable, optional
        The table of a segment that is open: its payloads are then counted as they are, and else as the segment's mean.
    by_column : bool, default False
        The columns of a layer may lie together.
    """
    references = node.references
    assert references is not None
    if columns is None and (node.is_table or stored_form(node) is not node):
        columns = np.arange(node.n_columns)
    n_columns = node.n_columns if columns is None else len(columns)
    blocks, groups = chunks_of(node, rows, columns)
    # Of a layer all columns are of one type: one stands for them.
    stored, held = stored_columns(node, columns if node.is_table and columns is not None else np.zeros(1, np.int64))
    n_ranges = n_units = n_opened = 0
    nbytes = n_cells = 0.0
    units_of = _units_of(references, blocks, groups)
    per_chunk = decoded_values(stored, min(stored.block_rows, stored.n_rows), held) / max(len(held), 1)
    per_chunk *= stored.group_columns
    for number, units in units_of.items():
        segment = references.segments[number]
        table = table_of(segment.id) if table_of is not None else None
        n_units += len(units)
        if table is not None and 0 <= units[0] <= units[-1] < table.n_units:
            sizes, starts = table.n_bytes[units], table.offsets[units]
            n_cells += float((table.shapes[units].prod(axis=1) * _weights(table, units)).sum())
        else:
            mean_nbytes = segment.encoded_nbytes / max(segment.n_units, 1)
            sizes, starts = np.full(len(units), mean_nbytes), units * mean_nbytes
            n_cells += len(units) * per_chunk * (segment.n_chunks / max(segment.n_units, 1))
            n_opened += table_of is not None
        order = np.argsort(starts, kind="stable")
        gaps = starts[order[1:]] - (starts + sizes)[order[:-1]]
        n_ranges += 1 + int((gaps > GAP_NBYTES).sum())
        nbytes += float(sizes.sum())
    n_texts = sum(stored.type_of(column).cell == "<U0" for column in held.tolist()) if stored.is_table else 0
    n_given = len(rows) * (n_columns + (_GIVEN_TEXT - 1) * n_texts)
    n_turned = 0 if node.is_table or by_column else n_given
    return ReadWork(
        n_ranges,
        n_units,
        int(nbytes),
        int(n_cells),
        n_opened,
        n_given,
        n_turned,
        n_segments=len(units_of),
        n_columns=len(groups) if node.is_table else 0,
    )


def whole_work(question: Question, node: Intermediate) -> ReadWork:
    """What reading all of a stored intermediate is made of, about: by the means of its segments, found once."""
    if node.name not in question.works:
        assert node.references is not None
        n_units = nbytes = 0.0
        for run in node.references.runs:
            segment = node.references.segments[run.segment]
            n_of_run = run.n_blocks * run.n_groups / max(segment.n_chunks, 1)
            n_units += n_of_run * segment.n_units
            nbytes += n_of_run * segment.encoded_nbytes
        n_cells = node.n_rows * node.n_columns
        n_segments = len(node.references.segments)
        question.works[node.name] = ReadWork(
            n_segments,
            round(n_units),
            round(nbytes),
            round(decoded_values(node, node.n_rows)),
            n_given=n_cells,
            n_turned=0 if node.is_table else n_cells,
            n_segments=n_segments,
            n_columns=node.n_columns if node.is_table else 0,
        )
    return question.works[node.name]


def decoded_values(node: Intermediate, n_rows: int, columns: np.ndarray | None = None) -> float:
    """Values of some rows and columns (None: all) as `ReadWork` counts those that are decoded, by their types."""
    n_columns = node.n_columns if columns is None else len(columns)
    if len(node.types) == 1 and node.types[0].cell != "<U0":
        return n_rows * n_columns * _decoded(node.types[0].cell)
    numbered = {values.group for values in node.references.dictionaries} if node.references else set()
    chosen = range(n_columns) if columns is None else columns.tolist()
    return n_rows * sum(_decoded("|u1" if one in numbered else node.type_of(one).cell) for one in chosen)


def _weights(table: UnitTable, units: np.ndarray) -> np.ndarray:
    """What a cell of each of these units counts for."""
    of_kinds = np.array([_decoded(kind.cell) for kind in table.kinds])
    weights: np.ndarray = of_kinds[table.kind_of[units]]
    return weights


def _decoded(cell: str) -> float:
    """What a value of a type counts for when it is decoded."""
    return _DECODED_TEXT if cell == "<U0" else _DECODED_NUMBER.get(np.dtype(cell).itemsize, 1.0)


def _units_of(references: References, blocks: np.ndarray, groups: np.ndarray) -> dict[int, np.ndarray]:
    """The units of each segment that hold chunks at these blocks and groups, and their dictionaries, each once."""
    found: dict[int, list[int]] = {}
    listed_blocks, listed_groups = blocks.tolist(), groups.tolist()
    for run in references.runs:
        low, high = bisect_left(listed_blocks, run.block), bisect_left(listed_blocks, run.block + run.n_blocks)
        left, right = bisect_left(listed_groups, run.group), bisect_left(listed_groups, run.group + run.n_groups)
        if low == high or left == right:
            continue
        first = run.unit - run.block * run.block_step - run.group * run.group_step
        steps = groups[left:right] * run.group_step
        if (high - low) * (right - left) < _FEW:
            of_run = [first + b * run.block_step + s for b in listed_blocks[low:high] for s in steps.tolist()]
        else:
            of_run = (first + blocks[low:high, None] * run.block_step + steps).reshape(-1).tolist()
        found.setdefault(run.segment, []).extend(of_run)
    asked = set(listed_groups) if references.dictionaries else set()
    for values in references.dictionaries:
        if values.group in asked:
            found.setdefault(values.segment, []).append(values.unit)
    return {segment: distinct(np.fromiter(units, np.int64)) for segment, units in found.items()}


def chunks_of(
    intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The blocks and groups, masks of nullable columns included, that hold some rows and columns.

    Columns may be None, all of them, of a layer that is stored in its own shape.
    """
    if columns is None:
        return steps_of(rows, intermediate.block_rows), np.arange(intermediate.n_groups)
    intermediate, columns = stored_columns(intermediate, columns)
    groups = steps_of(columns, intermediate.group_columns)
    masks = intermediate.mask_groups
    if masks:
        groups = np.concatenate([groups, [masks[c] for c in columns.tolist() if c in masks]]).astype(np.int64)
    return steps_of(rows, intermediate.block_rows), np.sort(groups)
