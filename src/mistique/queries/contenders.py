"""The rows that can be among the first k, by bounds: the threshold algorithm over an index of partitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.planner.choose import choose
from mistique.planner.execute import execute, question_of
from mistique.planner.measured import read_bounds_of
from mistique.planner.plan import INDEX, Candidate, Plan, format_nbytes
from mistique.queries.portions import CELLS_AT_ONCE, numbers_of
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

# A score of each row that is surely no larger, and one that is surely no smaller, of the bounds of its values.
ScoreBounds = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# Predicted to take no longer than so many times reading all rows, they are worth looking for.
_WORTH = 0.5


@dataclass(frozen=True, eq=False)
class Contenders:
    """Rows, in their order, of which all others can be left unread. Taken as `Portions` are.

    Parameters
    ----------
    positions : ndarray of shape (n_contenders,), int64
    numbers : ndarray of shape (n_contenders, n_positions, n_units) or (n_contenders, n_columns), float64
        Their values.
    max_abs_error : float
        Of these; 0.0 unless rows were recomputed in other batches than were captured.
    plan_taken : Plan
    """

    positions: np.ndarray
    numbers: np.ndarray
    max_abs_error: float
    plan_taken: Plan
    places = None  # numbers are of all positions

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield self.positions, self.numbers

    def plan(self) -> Plan:
        """What was taken, and why."""
        return self.plan_taken


def contenders(
    store: Store,
    capture: Capture,
    intermediate: Intermediate,
    *,
    columns: np.ndarray | None,
    k: int,
    scores: ScoreBounds,
) -> Contenders | None:
    """The rows that can have one of the k largest scores; None: there is no such index, or it would save nothing.

    Notes
    -----
    With t the k-th largest of the lower bounds, a row whose upper bound is below t has k rows before it whatever its
    values are. Those that are left are read, but for rows whose bounds are one number in every column. Reading them
    one after another, best bound first, until t is reached (NTA of DeepEverest) would spare some more rows but no
    chunks, as each lies in a row block of its own.
    """
    started = time.perf_counter()
    n_rows = intermediate.n_rows
    asked = np.arange(intermediate.n_columns) if columns is None else columns
    question = question_of(store, capture, intermediate, columns=columns)
    if question.index is None or k >= n_rows or not 0 < len(asked) * n_rows <= CELLS_AT_ONCE:
        return None
    found = read_bounds_of(store, question, asked)
    if found is None:
        return None
    lower, upper, nbytes = found
    low, high = scores(lower, upper)
    if np.isnan(low).any() or np.isnan(high).any():
        return None
    positions = np.flatnonzero(high >= np.partition(low, n_rows - k)[n_rows - k])
    numbers = lower[positions]
    is_open = (numbers < upper[positions]).reshape(len(positions), -1).any(axis=1)
    to_read = positions[is_open]
    whole, error = choose(question, store.calibration), 0.0
    if len(to_read):
        of_some = question_of(store, capture, intermediate, rows=to_read, columns=columns)
        some = choose(of_some, store.calibration).chosen.predicted_seconds
        if some > _WORTH * whole.chosen.predicted_seconds:
            return None
        values, plan = execute(store, capture, intermediate, rows=to_read, columns=columns)
        numbers[is_open] = numbers_of(values).reshape(len(to_read), *numbers.shape[1:])
        nbytes += plan.read_nbytes or 0
        error = plan.max_abs_error or 0.0
    seconds = time.perf_counter() - started
    basis = f"bounds leave {len(positions):,} of {n_rows:,} rows in the running, of which {len(to_read):,} were read"
    chosen = Candidate(INDEX, (intermediate.name,), True, basis, seconds, nbytes)
    reason = f"index: {basis}, {format_nbytes(nbytes)} in all"
    taken = replace(
        whole,
        candidates=(*whole.candidates, chosen),
        chosen=chosen,
        reason=reason,
        seconds=seconds,
        max_abs_error=error,
        took={"read": seconds},
        read_nbytes=nbytes,
    )
    return Contenders(positions, numbers, error, taken)
