"""The rows that can be among the first k, by bounds: the threshold algorithm over an index of partitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import StoreError
from mistique.kernels.distinct import distinct
from mistique.planner.choose import choose
from mistique.planner.execute import question_of
from mistique.planner.measured import Took, bounds_seconds, has_bounds, read_bounds_of, read_parts
from mistique.planner.plan import INDEX, Candidate, Plan, format_nbytes
from mistique.planner.planning import stop_if_planned
from mistique.planner.predict import read_seconds
from mistique.planner.question import Question
from mistique.planner.values import array_places
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
    n_read: int,
    exact: bool,
    scores: ScoreBounds,
) -> Contenders | None:
    """The rows that can have one of the k largest scores; None: there is no such index, or it would save nothing.

    `n_read` rows at least have to be read, whatever their bounds are.

    Notes
    -----
    With t the k-th largest of the lower bounds, a row whose upper bound is below t has k rows before it whatever its
    values are. Of the others the k that promise most are read first, which raises t, then those that are left; of each
    only the column groups in which its bounds are more than one number. One row after another (NTA of DeepEverest)
    would spare few more, and each lies in a chunk of its own.
    """
    started = time.perf_counter()
    asked = np.arange(intermediate.n_columns) if columns is None else columns
    if k >= intermediate.n_rows or not 0 < len(asked) * intermediate.n_rows <= CELLS_AT_ONCE:
        return None
    question = question_of(store, capture, intermediate, columns=columns, exact=exact)
    if not has_bounds(question):
        return None
    whole = choose(question, store.calibration)
    stop_if_planned(capture, intermediate.name, lambda: whole)
    limit_seconds = _WORTH * whole.chosen.predicted_seconds
    spread = np.unique(np.linspace(0, intermediate.n_rows - 1, n_read).astype(np.int64))
    fewest = read_seconds(question, question.target, spread, question.columns, store.calibration)[0] if n_read else 0.0
    if bounds_seconds(question, store.calibration) + fewest > limit_seconds:
        return None
    try:
        bounds = _Bounds(store, question, asked)
        low, high = scores(bounds.lower, bounds.upper)
        if np.isnan(low).any() or np.isnan(high).any():
            return None
        positions = _can_win(low, high, k)
        if bounds.seconds_to_close(positions) > limit_seconds:
            return None
        for n_rows in (k, len(positions)):
            some = np.sort(positions[np.argsort(-(low + high)[positions], kind="stable")[:n_rows]])
            bounds.close(some)
            low[some], high[some] = scores(bounds.lower[some], bounds.upper[some])
            positions = _can_win(low, high, k)
    except StoreError:
        return None  # it holds nothing that is not stored besides, and what reads that knows what to do
    seconds = time.perf_counter() - started
    n_rows, nbytes = intermediate.n_rows, bounds.took.read_nbytes
    basis = f"bounds leave {len(positions):,} of {n_rows:,} rows in the running, after {bounds.n_read:,} were read"
    chosen = Candidate(INDEX, (intermediate.name,), True, basis, seconds, nbytes)
    taken = replace(
        whole,
        candidates=(*whole.candidates, chosen),
        chosen=chosen,
        reason=f"index: {basis}, {format_nbytes(nbytes)} in all",
        seconds=seconds,
        max_abs_error=bounds.max_abs_error,
        took={"read": seconds},
        read_nbytes=nbytes,
    )
    return Contenders(positions, bounds.lower[positions], bounds.max_abs_error, taken)


def _can_win(low: np.ndarray, high: np.ndarray, k: int) -> np.ndarray:
    return np.flatnonzero(high >= np.partition(low, len(low) - k)[len(low) - k])


class _Bounds:
    """Bounds of the values asked, closed where they are read: `lower` and `upper` as `read_bounds` gives them."""

    def __init__(self, store: Store, question: Question, asked: np.ndarray) -> None:
        self._store, self._question, self._asked = store, question, asked
        self.took = Took()
        self.lower, self.upper = read_bounds_of(store, question, asked, took=self.took)
        self.max_abs_error, self.n_read = 0.0, 0

    def seconds_to_close(self, rows: np.ndarray) -> float:
        """What reading all values of some rows that are not known is predicted to take."""
        question, calibration = self._question, self._store.calibration
        return sum(
            read_seconds(question, question.target, some, columns, calibration)[0]
            for some, columns, _ in self._open(rows)
        )

    def close(self, rows: np.ndarray) -> None:
        """Read them."""
        target, n_rows = self._question.target, len(self.lower)
        waiting = list(self._open(rows))
        if not waiting:
            return
        # One measurement of them all: after each, costs are fitted anew.
        found = read_parts(self._store, target, [(some, columns) for some, columns, _ in waiting], took=self.took)
        for (some, columns, places), (values, error) in zip(waiting, found, strict=True):
            numbers = numbers_of(values).reshape(len(some), -1)[:, array_places(target, columns)[1]]
            for bounds in (self.lower, self.upper):
                bounds.reshape(n_rows, -1)[some[:, None], places] = numbers
            self.max_abs_error = max(self.max_abs_error, error)
            self.n_read += len(some)

    def _open(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each column group: rows with values of it that are not known, its columns asked, and their places."""
        target = self._question.target
        is_open = (self.lower[rows] < self.upper[rows]).reshape(len(rows), -1)
        group_of, places = self._asked // target.group_columns, array_places(target, self._asked)[1]
        for group in distinct(group_of):
            here = np.flatnonzero(group_of == group)
            here = here[np.argsort(self._asked[here])]
            some = rows[is_open[:, places[here]].any(axis=1)]
            if len(some):
                yield some, self._asked[here], places[here]
