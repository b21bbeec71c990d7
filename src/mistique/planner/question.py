"""A question of rows and columns, and how much of what is stored it touches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mistique.kernels.distinct import distinct, distinct_of_sorted
from mistique.planner.cost import ReadWork
from mistique.planner.memory import Kept
from mistique.planner.summary import stored_columns
from mistique.schema import Index, Intermediate, References, Tally, Version
from mistique.storage.captures import Capture
from mistique.storage.references import held_blocks
from mistique.storage.segments import GAP_NBYTES
from mistique.storage.units import UnitTable

# A text takes as long as so many numbers: 300 ns against 5 to be decoded, with all of its chunk, and 200 against 10 to
# be given as an object of Python.
_DECODED_TEXT, _GIVEN_TEXT = 60, 20
# Fewer are added up one by one in half the time.
_FEW = 64
TableOf = Callable[[str], UnitTable | None]


@dataclass(frozen=True, eq=False)
class StageGraph:
    """The intermediates of a capture as they are stored now.

    Parameters
    ----------
    capture : Capture
    n_moves : int
        Compactions' records that their references take account of.
    nodes : mapping of name to Intermediate
        With references of those that are stored.
    cuts : dict
        The cheapest cuts found so far.
    works, counted : dict
        What reading all of an intermediate is made of, of those that were looked at so far: about, and as the tables of
        its segments say.
    indexes : mapping of name to Index
        Of those that have one, with its references.
    """

    capture: Capture
    n_moves: int
    nodes: Mapping[str, Intermediate]
    cuts: dict[object, tuple[str, ...] | None] = field(default_factory=dict)
    works: dict[str, ReadWork] = field(default_factory=dict)
    counted: dict[str, ReadWork] = field(default_factory=dict)
    indexes: Mapping[str, Index] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """Some rows and columns of an intermediate, and all that deciding about it needs.

    Parameters
    ----------
    key : str
    target : Intermediate
        With its references, when it is stored.
    graph : mapping of name to Intermediate
        All intermediates of the capture, with references of those that are stored.
    version : Version
    model_is_loaded : bool
    rows : ndarray of int64, sorted
    columns : ndarray of int64, sorted
    exact : bool
        Quantized values are no answer.
    is_imported : bool
        The framework that runs the model is in memory.
    table_of : callable, optional
        The table of a segment that was opened before in this process; None: it was not. Without it, all were.
    is_set_up : callable
        Whether the target was computed from those sources before in this process.
    sets_up : bool
        Computing it for the first time takes longer, as a graph is traced.
    cuts, works, counted : dict
        Of this stage graph, as it is stored now; as `StageGraph` has them.
    index : Index, optional
        Of the target, with its references.
    of_largest : bool
        Of each unit, the largest of its positions is all that is needed.
    kept : Kept, optional
        All of the target, in memory.
    needs_labels : bool
        What runs again is given labels of rows that were not read yet in this process.
    tally : Tally, optional
        What is asked for, counted over all rows before.
    by_column : bool
        Cells of a layer that are read need not be turned: each column may lie together.
    busy : float
        As in `ReadWork`.
    """

    key: str
    target: Intermediate
    graph: Mapping[str, Intermediate]
    version: Version
    model_is_loaded: bool
    rows: np.ndarray
    columns: np.ndarray
    exact: bool
    is_imported: bool = True
    table_of: TableOf | None = None
    is_set_up: Callable[[tuple[str, ...]], bool] = lambda _: True
    sets_up: bool = False
    cuts: dict[object, tuple[str, ...] | None] = field(default_factory=dict)
    works: dict[str, ReadWork] = field(default_factory=dict)
    counted: dict[str, ReadWork] = field(default_factory=dict)
    index: Index | None = None
    of_largest: bool = False
    kept: Kept | None = None
    needs_labels: bool = False
    tally: Tally | None = None
    by_column: bool = False
    busy: float = 0.0

    @property
    def model(self) -> str:
        """What costs of running it are kept under: epochs of one run cost alike."""
        return f"{self.version.model} {self.version.run_id}"


def running_rows(question: Question, rows: np.ndarray) -> np.ndarray:
    """The rows that run when `rows` are recomputed: whole batches of the capture, so that every bit is the same."""
    batch, n_rows = question.version.batch_rows, question.target.n_rows
    if not batch:
        return np.arange(n_rows) if question.exact else rows
    return whole_steps(rows, batch, n_rows)


def whole_steps(rows: np.ndarray, step: int, n_rows: int) -> np.ndarray:
    """All rows of the batches, or blocks, of `step` rows that hold some of `rows`."""
    steps = steps_of(rows, step)
    found = (steps[:, None] * step + np.arange(step)).reshape(-1)
    return found[: np.searchsorted(found, n_rows)]


def are_held(node: Intermediate, rows: np.ndarray) -> bool:
    """Whether some rows of an intermediate are stored."""
    if node.references is None:
        return False
    return node.references.is_whole or bool(is_held(node, rows).all())


def is_held(node: Intermediate, rows: np.ndarray) -> np.ndarray:
    """Which of some rows of an intermediate are stored: shape (n_rows,), bool."""
    if node.references is None:
        return np.zeros(len(rows), bool)
    height = stored_columns(node, np.empty(0, np.int64))[0].block_rows
    held: np.ndarray = held_blocks(node.references, -(-node.n_rows // height))[rows // height]
    return held


def held_rows(node: Intermediate) -> np.ndarray:
    """The rows of an intermediate that are stored."""
    rows = np.arange(node.n_rows)
    return rows if node.references is None or node.references.is_whole else rows[is_held(node, rows)]


def read_work(
    node: Intermediate,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    table_of: TableOf | None = None,
    by_column: bool = False,
) -> ReadWork:
    """What reading some rows and columns of a stored intermediate is made of.

    Parameters
    ----------
    node : Intermediate
    rows, columns : ndarray of int64, sorted
    table_of : callable, optional
        The table of a segment that is open: its payloads are then counted as they are, and else as the segment's mean.
    by_column : bool, default False
        The columns of a layer may lie together.
    """
    references = node.references
    assert references is not None
    blocks, groups = chunks_of(node, rows, columns)
    stored, held = stored_columns(node, columns if node.is_table else np.empty(0, np.int64))
    per_chunk = min(stored.block_rows, stored.n_rows) * stored.group_columns
    n_ranges = n_units = n_texts = 0
    nbytes = n_cells = 0.0
    opened: list[int] = []
    for number, units in _units_of(references, blocks, groups).items():
        segment = references.segments[number]
        table = table_of(segment.id) if table_of is not None else None
        n_units += len(units)
        if table is not None and 0 <= units[0] <= units[-1] < table.n_units:
            sizes, starts = table.n_bytes[units], table.offsets[units]
            n_cells += int((table.shapes[units].prod(axis=1) * _weights(table)[units]).sum())
        else:
            mean_nbytes = segment.encoded_nbytes / max(segment.n_units, 1)
            sizes, starts = np.full(len(units), mean_nbytes), units * mean_nbytes
            n_cells += len(units) * per_chunk * (segment.n_chunks / max(segment.n_units, 1))
            opened += [segment.encoded_nbytes] if table_of is not None else []
        order = np.argsort(starts, kind="stable")
        gaps = starts[order[1:]] - (starts + sizes)[order[:-1]]
        n_ranges += 1 + int((gaps > GAP_NBYTES).sum())
        nbytes += float(sizes.sum())
    if stored.is_table and any(kind.cell == "<U0" for kind in stored.types):
        texts = [column for column in held.tolist() if stored.type_of(column).cell == "<U0"]
        n_texts = len(texts)
        if opened:
            numbered = {values.group for values in references.dictionaries}
            n_cells += _DECODED_TEXT * len(blocks) * per_chunk * sum(column not in numbered for column in texts)
    n_given = len(rows) * (len(columns) + (_GIVEN_TEXT - 1) * n_texts)
    n_turned = 0 if node.is_table or by_column else n_given
    return ReadWork(n_ranges, n_units, int(nbytes), int(n_cells), len(opened), n_given, n_turned, sum(opened))


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
        n_ranges = len(node.references.segments)
        n_turned = 0 if node.is_table else n_cells
        question.works[node.name] = ReadWork(
            n_ranges, round(n_units), round(nbytes), n_cells, n_given=n_cells, n_turned=n_turned
        )
    return question.works[node.name]


def _weights(table: UnitTable) -> np.ndarray:
    """What a cell of each unit counts for."""
    of_kinds = np.array([_DECODED_TEXT if kind.cell == "<U0" else 1 for kind in table.kinds])
    weights: np.ndarray = of_kinds[table.kind_of]
    return weights


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


def read_subject(node: Intermediate) -> str:
    """What costs of reading it are kept under: chunks of tables and of layers are put together in other ways."""
    return f"{node.codec['name']} {'table' if node.is_table else 'layer'}"


def memory_subject(node: Intermediate) -> str:
    """What costs of giving it from memory are kept under."""
    return "table" if node.is_table else "layer"


def memory_amounts(question: Question) -> tuple[float, float]:
    """The work of giving from memory: once, and values."""
    return 1.0, float(len(question.rows) * len(question.columns))


def chunks_of(intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks and groups, masks of nullable columns included, that hold some rows and columns."""
    intermediate, columns = stored_columns(intermediate, columns)
    groups = steps_of(columns, intermediate.group_columns)
    masks = intermediate.mask_groups
    if masks:
        groups = np.concatenate([groups, [masks[c] for c in columns.tolist() if c in masks]]).astype(np.int64)
    return steps_of(rows, intermediate.block_rows), np.sort(groups)


def steps_of(numbers: np.ndarray, step: int) -> np.ndarray:
    """Which steps of `step` numbers hold some of these, which are sorted and distinct."""
    n = len(numbers)
    # All rows are what is asked for most: of 60,000, dividing each takes a fifth of a millisecond.
    if n and numbers[-1] - numbers[0] == n - 1:
        return np.arange(numbers[0] // step, numbers[-1] // step + 1)
    return distinct_of_sorted(numbers // step)
