"""Can a stage be recomputed? Seen on a few rows, while the model is at hand."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from mistique.schema import INPUT
from mistique.sklearn.content import is_matrix
from mistique.sklearn.stages import Stage
from mistique.sklearn.step_cost import MORE_ROWS, Timed, repeated_rows
from mistique.sklearn.undisturbed import Attempt, attempt, copy_rows, count_rows, last_rows

SAMPLE_ROWS = 64
# Rounding in another batch geometry moves a float64 by 1e-13 of its column's size and a float32 by 1e-7; what
# differs by more than this comes from another computation: cross-fitting, or chance.
MAX_RELATIVE_DIFFERENCE = 1e-6


@dataclass(frozen=True, slots=True)
class Checked:
    """What the sample showed of one stage.

    Parameters
    ----------
    difference : float, optional
        Largest absolute difference; None: it cannot be recomputed.
    note : str
        Where a difference comes from, or why it cannot be recomputed.
    few : Timed, optional
        The run of the few rows. None: it did not run.
    """

    difference: float | None
    note: str = ""
    few: Timed | None = None


class Sample:
    """The last rows of the input, carried through the fitted stages, each after its parent.

    The rows go from stage to stage, as when everything is recomputed from the input. So when one stage cannot
    be recomputed, those after it cannot either.

    Parameters
    ----------
    X : container
        The input; its last rows are copied.
    start : str, default "input"
        What it is.

    Notes
    -----
    The last rows and never all of them: a random number drawn for each row from a fixed seed is the same again for the
    first rows, and what depends on the batch is the same again for the whole of it.
    """

    def __init__(self, X: Any, *, start: str = INPUT) -> None:
        n_rows = count_rows(X) or 0
        self._n_rows = min(SAMPLE_ROWS, n_rows - n_rows // 2)
        self._carried: dict[str, Attempt[Any]] = {start: attempt(lambda: last_rows(X, self._n_rows))}
        self._notes = {start: self._carried[start].why}
        self._passed_over: dict[str, tuple[Stage, bool]] = {}

    def pass_over(self, stage: Stage, *, is_quiet: bool) -> None:
        """Leave out a stage of which all is known; its rows are carried through it when a later stage needs them."""
        self._passed_over[stage.name] = stage, is_quiet

    def check(self, stage: Stage, captured: Any, *, label: str, is_quiet: bool = False) -> Checked:
        """How the output of a fitted stage compares with what was captured of it.

        Parameters
        ----------
        stage : Stage
            Its estimator is copied, so that the user's is left alone.
        captured : container
            All rows that were captured.
        label : str
            What is compared: ``"fit_transform and transform differ here"``.
        is_quiet : bool, default False
            It is known to leave no trace in its estimator, which need not be copied: of a forest that took
            longer than all else here.
        """
        if stage.method == "fit_predict":
            return Checked(None, f"{stage.detail} has no predict: it finds its output only while it is fitted")
        if self._rows_of(stage.parent) is None:
            note = self._notes[stage.name] = self._notes[stage.parent]
            return Checked(None, note)
        seconds = self._carry(stage, is_quiet)
        carried = self._carried[stage.name]
        if carried.value is None:
            checked = Checked(None, f"it cannot be run again: {carried.why or 'it gave None'}")
        else:
            checked = self._compared(captured, carried.value, label, seconds)
        if checked.difference is None:
            self._carried[stage.name] = Attempt(None)
            self._notes[stage.name] = f"{stage.name!r} before it cannot be recomputed: {checked.note}"
        return checked

    def time_more(self, stage: Stage, *, is_quiet: bool = False) -> Timed | None:
        """A run of the same rows many times over; None: the stage does not take them."""
        times = MORE_ROWS // max(self._n_rows, 1)
        given = attempt(lambda: repeated_rows(self._carried[stage.parent].value, self._n_rows, times))
        if given.value is None:
            return None
        private = stage if is_quiet else stage.with_estimator(copy.deepcopy(stage.estimator))
        started = time.perf_counter()
        done = attempt(lambda: private.run(given.value))
        return None if done.error is not None else Timed(self._n_rows * times, time.perf_counter() - started)

    def _rows_of(self, name: str) -> Any:
        """The rows as a stage gave them; None: it did not, and there is a note that says why."""
        if name not in self._carried and name in self._passed_over:
            stage, is_quiet = self._passed_over[name]
            if self._rows_of(stage.parent) is None:
                self._notes[name] = self._notes[stage.parent]
            else:
                self._carry(stage, is_quiet)
                self._notes[name] = f"{name!r} before it cannot be run again: {self._carried[name].why}"
        if name not in self._carried:
            self._notes.setdefault(name, f"{name!r} before it was not seen")
            return None
        return self._carried[name].value

    def _carry(self, stage: Stage, is_quiet: bool) -> float:
        """Carry the rows through a stage; the seconds that it took."""
        rows, seconds = self._carried[stage.parent].value, 0.0

        def run() -> Any:
            nonlocal seconds
            private = stage if is_quiet else stage.with_estimator(copy.deepcopy(stage.estimator))
            # Several stages may begin with the same rows, and one may change them in place.
            given = copy_rows(rows)
            started = time.perf_counter()
            found = private.run(given)
            seconds = time.perf_counter() - started
            return found

        self._carried[stage.name] = attempt(run)
        return seconds

    def _compared(self, captured: Any, again: Any, label: str, seconds: float) -> Checked:
        head = attempt(lambda: last_rows(captured, self._n_rows))
        outcome = attempt(lambda: largest_difference(head.value, again))
        if head.error is not None or outcome.value is None:
            return Checked(None, f"{label}: {head.why or outcome.why}")
        absolute, relative = outcome.value
        few = Timed(self._n_rows, seconds)
        if relative > MAX_RELATIVE_DIFFERENCE:
            note = f"{label}: by {relative:.2g} of the values' size. It fits across folds, or has chance in it"
            return Checked(None, note, few)
        return Checked(absolute, f"{label}: by at most {absolute:.2g}" if absolute else "", few)


def largest_difference(one: Any, other: Any) -> tuple[float, float]:
    """Largest absolute difference of two containers, and the largest relative to the size of the values.

    Returns
    -------
    absolute, relative : float
        0.0 and 0.0: they are equal, NaN being equal to NaN.

    Raises
    ------
    ValueError
        They cannot be compared: another container, shape or type, or values without a size that are not
        equal.

    Examples
    --------
    >>> largest_difference(np.array([1.0, 4.0]), np.array([1.0, 3.0]))
    (1.0, 0.25)
    >>> largest_difference(np.array(["a"]), np.array(["b"]))
    Traceback (most recent call last):
    ...
    ValueError: other values
    """
    if type(one) is not type(other) and not (hasattr(one, "tocsr") and hasattr(other, "tocsr")):
        raise ValueError(f"{type(one).__name__} at capture, {type(other).__name__} again")
    absolute = relative = 0.0
    if hasattr(one, "tocsr") and hasattr(other, "tocsr"):
        one, other = _without_zeros(one, other)
    for a, b in zip(_arrays(one), _arrays(other), strict=True):
        if a.shape == b.shape and a.dtype == b.dtype and a.dtype.kind != "O" and a.tobytes() == b.tobytes():
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{a.dtype} of shape {a.shape} at capture, {b.dtype} of shape {b.shape} again")
        if a.dtype.kind not in "fiub":
            if not all(x is y or x == y or (x != x and y != y) for x, y in zip(a.flat, b.flat, strict=True)):
                raise ValueError("other values")
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        is_same = (a == b) | (np.isnan(a) & np.isnan(b))
        if is_same.all():
            continue
        apart = np.abs(a - b)[~is_same].max()
        size = np.abs(a[np.isfinite(a)]).max(initial=0.0)
        if not np.isfinite(apart):
            raise ValueError("other values: finite here, not finite there")
        absolute = max(absolute, float(apart))
        relative = max(relative, float(apart / size) if size else np.inf)
    return absolute, relative


def _without_zeros(one: Any, other: Any) -> tuple[Any, Any]:
    """The values of two sparse matrices alone, where these are at the same places."""
    a, b = one.tocsr().copy(), other.tocsr().copy()
    a.sort_indices()
    b.sort_indices()
    is_alike = a.shape == b.shape and a.nnz == b.nnz
    is_alike = is_alike and np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)
    return (a.data, b.data) if is_alike else (one, other)


def _arrays(value: Any) -> list[np.ndarray]:
    """A frame column by column, as each has its own type and size; everything else whole."""
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        # All columns of a type at once: pandas takes 100 microseconds to hand over one.
        dtypes = value.dtypes.tolist()
        if is_matrix(dtypes):
            return list(value.to_numpy().T)
        alike: dict[Any, list[int]] = defaultdict(list)
        for i, dtype in enumerate(dtypes):
            alike[dtype if is_matrix([dtype]) else i].append(i)
        arrays: dict[int, np.ndarray] = {}
        for positions in alike.values():
            part = value.iloc[:, positions] if len(positions) > 1 else value.iloc[:, positions[0]]
            columns = part.to_numpy().T if len(positions) > 1 else [np.asarray(part)]
            arrays.update(zip(positions, columns, strict=True))
        return [arrays[i] for i in range(len(dtypes))]
    return [value.toarray() if hasattr(value, "toarray") else np.asarray(value)]
