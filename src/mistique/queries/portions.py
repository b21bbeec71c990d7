"""An intermediate as numbers, some row blocks at a time: what is larger than memory is answered too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.choose import choose
from mistique.planner.column_values import numpy_column
from mistique.planner.execute import execute, question_of
from mistique.planner.plan import Plan
from mistique.planner.planning import stop_if_planned
from mistique.planner.values import Values
from mistique.queries.progress import tracked
from mistique.queries.selection import select_columns
from mistique.schema import ColumnType, Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

T = TypeVar("T")
R = TypeVar("R")

# 28 MiB of float32. What is read, turned and summed of a portion takes a few times that. Memory of 32 MiB and more
# malloc gives back at once, and each of its pages is faulted in again: CKA took a twentieth more processor time.
CELLS_AT_ONCE = 7 * 1024 * 1024
_SINGLE = ("float16", "bfloat16", "float32", "int8", "int16", "uint8", "uint16", "bool")


class Portions:
    """The rows of an intermediate as numbers, in portions of whole row blocks, each read or recomputed.

    Parameters
    ----------
    store : Store
    capture : Capture
    intermediate : Intermediate
    rows : ndarray of int64, optional
        Positions, in the order wanted. None: all.
    columns : ndarray of int64, optional
    exact : bool
    of_largest : bool
        The columns are those of whole units, and the largest of its positions may stand for each.
    by_column : bool
        The numbers of each column of a layer may lie together in memory, which takes less time.

    Attributes
    ----------
    places : ndarray of shape (n_rows, n_units), int64, or None
        Of the rows taken last, where the largest are: then the rows have shape (n_rows, n_units).
    """

    def __init__(
        self,
        store: Store,
        capture: Capture,
        intermediate: Intermediate,
        *,
        rows: np.ndarray | None = None,
        columns: np.ndarray | None = None,
        exact: bool = False,
        of_largest: bool = False,
        by_column: bool = False,
    ) -> None:
        self._store, self._capture, self.intermediate = store, capture, intermediate
        self._rows, self._columns, self._exact, self._of_largest = rows, columns, exact, of_largest
        self._by_column = by_column
        self.places: np.ndarray | None = None
        self.n_rows = intermediate.n_rows if rows is None else len(rows)
        self.n_columns = intermediate.n_columns if columns is None else len(columns)
        self._plans: list[Plan] = []
        self._whole: Plan | None = None
        self._ahead: dict[int, np.ndarray] = {}

    @property
    def columns(self) -> np.ndarray:
        """Positions of the columns asked."""
        return np.arange(self.n_columns) if self._columns is None else self._columns

    @property
    def rows_at_once(self) -> int:
        """Rows of a portion: whole row blocks."""
        height = self.intermediate.block_rows
        return max(CELLS_AT_ONCE // (height * max(self.n_columns, 1)), 1) * height

    def take(self, low: int, high: int, *, columns: np.ndarray | None = None) -> np.ndarray:
        """Rows `low` to `high`, of shape (n_rows, n_positions, n_units) for whole units, else (n_rows, n_columns).

        `columns` are some of those asked; None: all of them.
        """
        whole = self._rows is None and (low, high) == (0, self.n_rows)
        rows = None if whole else np.arange(low, high) if self._rows is None else self._rows[low:high]
        chosen = self._columns if columns is None else columns
        values, plan = execute(
            self._store,
            self._capture,
            self.intermediate,
            rows=rows,
            columns=chosen,
            exact=self._exact,
            of_largest=self._of_largest,
            by_column=self._by_column,
            like=self._plans[-1] if self._plans else None,
        )
        self.places = values.places
        self._plans.append(plan)
        return numbers_of(values)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells its values from those of others, as they are stored now."""
        columns = None if self._columns is None else self._columns.tobytes()
        return self._capture.id, self._capture.orders[self.intermediate.name], columns, self._exact

    def row(self, position: int) -> np.ndarray:
        """One row of all, (1, ...), of its portion, which is kept: it comes in its turn without being taken again."""
        low = position // self.rows_at_once * self.rows_at_once
        self._ahead = {low: self.take(low, min(low + self.rows_at_once, self.n_rows))}
        return self._ahead[low][position - low : position - low + 1]

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Some rows of it, by position, as `take` gives them; they count as taken."""
        values, plan = execute(
            self._store, self._capture, self.intermediate, rows=positions, columns=self._columns, exact=self._exact
        )
        self._plans.append(plan)
        return numbers_of(values)

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        stop_if_planned(self._capture, self.intermediate.name, self.plan)
        starts = range(0, self.n_rows, self.rows_at_once)
        for low in tracked(starts, f"reading {self.intermediate.name}", total=len(starts)):
            high = min(low + self.rows_at_once, self.n_rows)
            ahead = self._ahead.pop(low, None)
            yield slice(low, high), self.take(low, high) if ahead is None else ahead

    @property
    def max_abs_error(self) -> float:
        """Of any value taken so far."""
        return max((plan.max_abs_error or 0.0 for plan in self._plans), default=0.0)

    def spread(self, function: Callable[[list[T]], R], work: list[T], *, size: int) -> list[Future[R]]:
        """Run a function over `size` items of some work at a time, on the threads that decode."""
        return self._store.segments.spread(function, work, size=size)

    def plan(self) -> Plan:
        """One plan for all that was taken, with what it took; before anything was taken, for all that will be."""
        if len(self._plans) == 1:
            return self._plans[0]
        whole = self.plan_whole()
        if not self._plans:
            return whole
        roads = Counter(plan.chosen.road for plan in self._plans)
        portions = ", ".join(f"{n} by {road}" for road, n in roads.items())
        seconds = sum(plan.seconds or 0.0 for plan in self._plans)
        reason = f"{whole.reason}; in portions, {portions}"
        # A model that may not be loaded, or a figure learned on the way, can have led elsewhere than was predicted.
        taken = [c for c in whole.candidates if c.road == roads.most_common(1)[0][0]]
        chosen = taken[0] if taken else whole.chosen
        return replace(whole, chosen=chosen, reason=reason, seconds=seconds, max_abs_error=self.max_abs_error)

    def plan_whole(self) -> Plan:
        """One plan for all that will be taken, made once."""
        if self._whole is None:
            question = question_of(
                self._store,
                self._capture,
                self.intermediate,
                rows=self._rows,
                columns=self._columns,
                exact=self._exact,
                of_largest=self._of_largest,
            )
            self._whole = choose(question, self._store.calibration)
        return self._whole


def numbers_of(values: Values) -> np.ndarray:
    """Values as float32 where that holds them, else float64; nulls are NaN.

    Returns
    -------
    ndarray of shape (n_rows, n_positions, n_units) or (n_rows, n_columns)
        The first where whole units of a layer were asked.

    Raises
    ------
    QueryError
        Naming the columns that hold no numbers.
    """
    _check_numbers(values.intermediate, values.columns)
    if not isinstance(values.parts, np.ndarray):
        table = np.empty((values.n_rows, len(values.parts)))
        for i, part in enumerate(values.parts):
            column = numpy_column(part)
            if column.dtype == object:  # truth values with nulls
                column = np.array([np.nan if value is None else value for value in column], np.float64)
            table[:, i] = column
        return table
    numbers = values.to_numpy().reshape(values.parts.shape)
    if numbers.dtype in (np.float32, np.float64):
        return numbers
    name = numbers.dtype.name
    return numbers.astype(np.float32 if name in _SINGLE or name.startswith("float8") else np.float64)


def in_columns(numbers: np.ndarray) -> np.ndarray:
    """Numbers of shape (n_rows, n_columns), in the order in which columns are numbered: a unit's positions together."""
    return numbers.transpose(0, 2, 1).reshape(len(numbers), -1) if numbers.ndim == 3 else numbers


def number_columns(intermediate: Intermediate, columns: Any, unit: Any) -> tuple[np.ndarray | None, list[str]]:
    """Positions of the columns asked; where none were asked, of all that hold numbers, and the names of the others.

    Raises
    ------
    QueryError
        A column that was asked holds no numbers, or none does.
    """
    chosen = select_columns(intermediate, columns, unit)
    if chosen is not None:
        _check_numbers(intermediate, chosen)
        return chosen, []
    if all(is_number(kind) for kind in intermediate.types):
        return None, []
    fitting = [column for column in range(intermediate.n_columns) if is_number(intermediate.type_of(column))]
    if not fitting:
        _check_numbers(intermediate, np.arange(intermediate.n_columns))
    names = intermediate.column_names()
    others = [names[column] for column in range(intermediate.n_columns) if column not in set(fitting)]
    return np.array(fitting, np.int64), others


def is_number(kind: ColumnType) -> bool:
    """Whether the values of a column can be reckoned with."""
    if kind.categories is not None:
        return all(isinstance(item, (int, float)) for item in kind.categories)
    return kind.cell != "<U0" and kind.dtype.lower().startswith(("int", "uint", "float", "bfloat", "bool"))


def _check_numbers(intermediate: Intermediate, columns: np.ndarray) -> None:
    kinds = intermediate.types
    if len(kinds) == 1 and is_number(kinds[0]):
        return
    wrong = [column for column in columns.tolist() if not is_number(intermediate.type_of(column))]
    if wrong:
        names = intermediate.column_names()
        listed = ", ".join(names[column] for column in wrong[:6])
        raise QueryError(
            f"{intermediate.name}: expected columns of numbers, but {listed} hold{'s' if len(wrong) == 1 else ''} "
            f"{intermediate.type_of(wrong[0]).dtype}; name others with columns="
        )
