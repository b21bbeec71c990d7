"""A question of rows and columns, and which rows it reads or runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mistique.kernels.distinct import distinct_of_sorted
from mistique.planner.cost import ReadWork
from mistique.planner.memory import Kept
from mistique.planner.summary import stored_columns
from mistique.schema import Index, Intermediate, Tally, Version
from mistique.storage.captures import Capture
from mistique.storage.references import held_blocks
from mistique.storage.units import UnitTable

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


def read_subject(node: Intermediate) -> str:
    """What costs of reading it are kept under: chunks of tables and of layers are put together in other ways."""
    return f"{node.codec['name']} {'table' if node.is_table else 'layer'}"


def memory_subject(node: Intermediate) -> str:
    """What costs of giving it from memory are kept under."""
    return "table" if node.is_table else "layer"


def memory_amounts(question: Question) -> tuple[float, float]:
    """The work of giving from memory: once, and values."""
    return 1.0, float(len(question.rows) * len(question.columns))


def steps_of(numbers: np.ndarray, step: int) -> np.ndarray:
    """Which steps of `step` numbers hold some of these, which are sorted and distinct."""
    n = len(numbers)
    # All rows are what is asked for most: of 60,000, dividing each takes a fifth of a millisecond.
    if n and numbers[-1] - numbers[0] == n - 1:
        return np.arange(numbers[0] // step, numbers[-1] // step + 1)
    return distinct_of_sorted(numbers // step)
