"""A question of rows and columns, and how much of what is stored it touches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mistique.planner.cost import ReadWork
from mistique.planner.summary import stored_columns
from mistique.schema import Index, Intermediate, Version
from mistique.storage.captures import Capture
from mistique.storage.references import held_blocks

# A text takes as long as so many numbers.
_TEXT = 10


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
    indexes : mapping of name to Index
        Of those that have one, with its references.
    """

    capture: Capture
    n_moves: int
    nodes: Mapping[str, Intermediate]
    cuts: dict[object, tuple[str, ...] | None] = field(default_factory=dict)
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
    is_open : callable
        Whether a segment was opened before in this process.
    is_set_up : callable
        Whether the target was computed from those sources before in this process.
    sets_up : bool
        Computing it for the first time takes longer, as a graph is traced.
    cuts : dict
        Of this stage graph, as it is stored now: the cuts found so far.
    index : Index, optional
        Of the target, with its references.
    of_largest : bool
        Of each unit, the largest of its positions is all that is needed.
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
    is_open: Callable[[str], bool] = lambda _: True
    is_set_up: Callable[[tuple[str, ...]], bool] = lambda _: True
    sets_up: bool = False
    cuts: dict[object, tuple[str, ...] | None] = field(default_factory=dict)
    index: Index | None = None
    of_largest: bool = False

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
    steps = distinct(rows // step)
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
    node: Intermediate, rows: np.ndarray, columns: np.ndarray, *, is_open: Callable[[str], bool] = lambda _: True
) -> ReadWork:
    """What reading some rows and columns of a stored intermediate is made of."""
    references = node.references
    assert references is not None
    blocks, groups = chunks_of(node, rows, columns)
    stored, held = stored_columns(node, columns if node.is_table else np.empty(0, np.int64))
    per_chunk = min(stored.block_rows, stored.n_rows) * stored.group_columns
    n_ranges = n_units = 0
    nbytes = n_cells = 0.0
    touched: set[int] = set()
    # Columns of a table are encoded some together, and one is decoded with the others.
    seen: set[tuple[int, int]] = set()
    listed_blocks, listed_groups = blocks.tolist(), groups.tolist()
    for run in references.runs:
        n_blocks = _n_within(listed_blocks, run.block, run.n_blocks)
        low, high = bisect_left(listed_groups, run.group), bisect_left(listed_groups, run.group + run.n_groups)
        if not n_blocks or low == high:
            continue
        touched.add(run.segment)
        if stored.is_table:
            within = listed_groups[low:high]
            units = {(run.segment, run.unit + (group - run.group) * run.group_step) for group in within}
            n_new = n_blocks * len(units - seen)
            seen |= units
            n_ranges += 1 if n_new else 0
        else:
            n_new = n_blocks * (high - low)
            # Blocks lie one behind the other, the groups of a block side by side.
            n_ranges += n_blocks * (1 + int((np.diff(groups[low:high]) > 1).sum()))
        segment = references.segments[run.segment]
        n_units += n_new
        nbytes += n_new * segment.encoded_nbytes / segment.n_units
        n_cells += n_new * per_chunk * (segment.n_chunks / segment.n_units)
    if stored.is_table:
        asked = set(listed_groups)
        n_values = sum(found.group in asked for found in references.dictionaries)
        n_units += n_values
        # A text becomes an object of Python for each row.
        n_cells += sum(_TEXT * len(rows) for c in held.tolist() if stored.type_of(c).cell == "<U0")
    n_opened = sum(not is_open(references.segments[number].id) for number in touched)
    return ReadWork(n_ranges, n_units, int(nbytes), int(n_cells), n_opened)


def read_subject(node: Intermediate) -> str:
    """What costs of reading it are kept under: chunks of tables and of layers are put together in other ways."""
    return f"{node.codec['name']} {'table' if node.is_table else 'layer'}"


def chunks_of(intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks and groups, masks of nullable columns included, that hold some rows and columns."""
    intermediate, columns = stored_columns(intermediate, columns)
    groups = distinct(columns // intermediate.group_columns)
    masks = intermediate.mask_groups
    if masks:
        groups = np.concatenate([groups, [masks[c] for c in columns.tolist() if c in masks]]).astype(np.int64)
    return distinct(rows // intermediate.block_rows), np.sort(groups)


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Sorted numbers without their repetitions: of 10,000, a tenth of the time of `np.unique`."""
    return numbers[np.flatnonzero(np.diff(numbers, prepend=-1))]


def _n_within(numbers: list[int], first: int, n: int) -> int:
    """How many of some sorted numbers are among the `n` from `first` on."""
    return bisect_left(numbers, first + n) - bisect_left(numbers, first)
