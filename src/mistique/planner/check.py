"""Holding what is stored against what the model gives again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.planner.byproduct import Beside
from mistique.planner.column_values import numpy_column
from mistique.planner.execute import question_of, row_labels
from mistique.planner.measured import Took, read_stored
from mistique.planner.question import Question, is_held
from mistique.planner.recompute import recompute
from mistique.planner.roads import inputs_of, nearest_stored, why_not_recomputed
from mistique.planner.values import Values
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

# A table is compared in one piece, as a step may tell a row by the others, unless it is larger than this.
_WHOLE_CELLS = 8 * 1024 * 1024


def checked_rows(capture: Capture, node: Intermediate, sample: int) -> np.ndarray:
    """About so many rows to compare: whole batches, the first, the last, and some in between."""
    batch, n_rows = capture.version.batch_rows, node.n_rows
    if not batch:
        if n_rows * node.n_columns <= _WHOLE_CELLS:
            return np.arange(n_rows)
        return np.unique(np.linspace(0, n_rows - 1, max(sample, 2)).astype(np.int64))
    n_batches = -(-n_rows // batch)
    chosen = np.unique(np.linspace(0, n_batches - 1, max(-(-sample // batch), 1)).astype(np.int64))
    rows = (chosen[:, None] * batch + np.arange(batch)).reshape(-1)
    return rows[rows < n_rows]


def compare(store: Store, capture: Capture, node: Intermediate, rows: np.ndarray) -> tuple[float, float, str]:
    """How far what is stored of some rows is from what the model gives for them now.

    Returns
    -------
    difference : float
        The largest absolute one; infinite where text, nulls or categories differ, or what is finite.
    bound : float
        Within which it should be: of the codec, and of what was seen at the capture.
    note : str
        Where it is not: what is known of it.

    Raises
    ------
    ModelMismatchError, UntrustedArtifactError, ChunkCorruptError
    """
    question = question_of(store, capture, node, rows=rows)
    target = question.target
    stored, bound = read_stored(store, target, rows, question.columns, took=Took())
    sources = nearest_stored(question) or inputs_of(question.graph)
    again, allowed = _recomputed(store, capture, question, sources)
    difference = largest_difference(stored, again)
    bound += allowed
    # The bound is a float itself.
    if difference <= bound * (1 + 1e-6):
        return difference, bound, ""
    once_more = largest_difference(again, _recomputed(store, capture, question, sources)[0])
    note = "it gives other values each time it runs" if once_more > bound else "the model gives other values than then"
    return difference, bound, note


def why_not_checked(store: Store, capture: Capture, node: Intermediate) -> str:
    """Why an intermediate cannot be held against the model; empty: it can."""
    question = question_of(store, capture, node)
    target = question.target
    if target.references is None:
        return "it is not stored"
    return why_not_recomputed(replace(question, exact=False))


def stored_rows(store: Store, capture: Capture, node: Intermediate, rows: np.ndarray) -> np.ndarray:
    """Of some rows, those that are stored."""
    held: np.ndarray = rows[is_held(question_of(store, capture, node).target, rows)]
    return held


def largest_difference(one: Values, other: Values) -> float:
    """Largest absolute difference of two sets of the same rows and columns; infinite where it is none of numbers."""
    if isinstance(one.parts, np.ndarray):
        return _apart(one.to_numpy(), other.to_numpy())
    assert isinstance(other.parts, list)
    worst = 0.0
    for a, b in zip(one.parts, other.parts, strict=True):
        if a.type != b.type:
            return float("inf")
        worst = max(worst, _apart(numpy_column(a), numpy_column(b)))
    return worst


def _recomputed(store: Store, capture: Capture, question: Question, sources: tuple[str, ...]) -> tuple[Values, float]:
    nothing = Beside(question.target, np.empty(0, np.int64), None)
    index = row_labels(store, capture)
    return recompute(store, capture, question, sources, question.rows, index=index, took=Took(), byproduct=nothing)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind in "OUSMm":
        is_same = np.array([x is y or x == y or (x != x and y != y) for x, y in zip(a.flat, b.flat, strict=True)])
        return 0.0 if is_same.all() else float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = a.astype(np.float64), b.astype(np.float64)
        apart = np.abs(a - b)
        apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))
