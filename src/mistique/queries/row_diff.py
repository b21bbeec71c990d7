"""ROW_DIFF: in what two rows differ, over all columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.ingest.cells import Column
from mistique.planner.column_values import numpy_column
from mistique.planner.execute import execute
from mistique.planner.plan import Plan
from mistique.queries.answer import Plotted, format_value
from mistique.queries.portions import in_columns, is_number, numbers_of
from mistique.queries.positions import check_reduce, names_of, reduced
from mistique.queries.selection import find, labels_of, one_row, select_columns
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class RowDiff(Plotted):
    """Two rows compared, a line for each column, the largest difference first. Made by `row_diff`.

    ``values`` has shape (n_columns, 3): the first row, the second, and the second less the first. ``rows`` are the
    names of the columns. A value that only one row has comes before all differences, what both lack after all.

    Parameters
    ----------
    other : str
        The key of the second row.
    other_plan : Plan
        The road taken for it.
    texts : mapping of str to tuple
        Both values of the columns that hold no numbers and differ.
    only_in_one : tuple of str
        Columns that the other intermediate does not have.
    """

    _dims: ClassVar[tuple[str, ...]] = ("column", "side")

    other: str
    other_plan: Plan
    texts: Mapping[str, tuple[Any, Any]]
    only_in_one: tuple[str, ...]

    def _title(self) -> str:
        against = "" if self.other == self.key else f" and {self.other}"
        return f"{self.columns[0]} and {self.columns[1]} in {self.key}{against}"

    def _head(self) -> list[str]:
        return ["column", *self.columns]

    def _more(self) -> list[str]:
        notes = [f"{name}: {format_value(a)} and {format_value(b)}" for name, (a, b) in list(self.texts.items())[:10]]
        if self.only_in_one:
            notes.append(f"in one of the two alone: {', '.join(self.only_in_one[:6])}")
        return [*notes, *super()._more()]


def row_diff(
    store: Store,
    key: str | Key,
    *,
    rows: Any = None,
    positions: tuple[int, int] | None = None,
    against: str | Key | None = None,
    columns: Any = None,
    unit: Any = None,
    reduce: str = "none",
    exact: bool = False,
) -> RowDiff:
    """In what two rows of an intermediate differ, column by column, the largest difference first.

    Parameters
    ----------
    store : Store
    key : str or Key
    rows : pair of labels
        Of the first and the second row.
    positions : pair of int, optional
        In place of labels: positions in the dataset, from 0, or from the end where negative.
    against : str or Key, optional
        Where the second row is: the same intermediate of another version or dataset. Columns are matched by name.
    columns : str, int or list of them, optional
        Default: all.
    unit : int or list of int, optional
    reduce : {"none", "mean", "max"}, default "none"
        Over the positions of each unit of a feature map. "none" compares every position.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    RowDiff
        ``max_abs_error`` is that of the difference: the bounds of both rows added.

    Raises
    ------
    QueryError
        There is no such row, or several of that label; or the two intermediates have no columns in common.
    IntermediateNotFoundError

    Notes
    -----
    The paper's ROW_DIFF (table 1). Two rows are read, whatever the number of rows.

    Examples
    --------
    >>> import mistique, numpy as np, pandas as pd, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> homes = pd.DataFrame({"rooms": [3.0, 4.0], "sqft": [900.0, 1500.0]}, index=["home-50", "home-55"])
    >>> _ = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge").fit(homes, [1.0, 2.0])
    >>> mistique.row_diff(store, "demo/ridge@1/train/input", rows=("home-50", "home-55")).to_frame()
          home-50  home-55  difference
    sqft    900.0   1500.0       600.0
    rooms     3.0      4.0         1.0
    """
    first_row, second_row = _pair(rows, positions)
    is_label = positions is None
    taken = partial(_sides, store, is_label=is_label, columns=columns, unit=unit, reduce=reduce, exact=exact)
    if against is None:
        first, second = taken(key, [first_row, second_row])
    else:
        first, second = *taken(key, [first_row]), *taken(against, [second_row])
    here, there = _common(first.names, second.names)
    if not len(here) and not first.texts.keys() & second.texts.keys():
        raise QueryError(f"{first.plan.key} and {second.plan.key} have no column in common")
    if len(here) < len(first.names) and first.is_numbered:
        raise QueryError(
            f"{first.plan.key} has {len(first.names)} columns and {second.plan.key} {len(second.names)}, "
            "without names: give the same intermediate of another version, or unit= or columns= that both have"
        )
    a, b = first.numbers[here], second.numbers[there]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(a == b, 0.0, b - a)
    order = _largest_first(a, b, difference)
    labels = [str(first.label), str(second.label)]
    if labels[0] == labels[1]:
        labels = [f"{label} (first)" if i == 0 else f"{label} (second)" for i, label in enumerate(labels)]
    return RowDiff(
        first.plan.key,
        np.stack([a, b, difference], axis=1)[order],
        np.array(first.names, object)[here][order],
        (*labels, "difference"),
        (first.plan.max_abs_error or 0.0) + (second.plan.max_abs_error or 0.0),
        first.plan,
        second.plan.key,
        second.plan,
        {
            name: (value, second.texts[name])
            for name, value in first.texts.items()
            if name in second.texts and value != second.texts[name]
        },
        _only_in_one(first, second),
        _store=store,
    )


@dataclass(frozen=True, eq=False)
class _Side:
    """One row: its numbers by column, and what is no number."""

    label: Any
    names: list[str]
    numbers: np.ndarray
    texts: Mapping[str, Any]
    plan: Plan
    is_numbered: bool


def _common(names: list[str], others: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where the names that both have are in the one and in the other."""
    if names == others:  # thousands of units of a layer are not looked up one by one
        every = np.arange(len(names))
        return every, every
    place_of = {name: i for i, name in enumerate(others)}
    common = [(i, place_of[name]) for i, name in enumerate(names) if name in place_of]
    here, there = np.array(common, np.int64).reshape(-1, 2).T
    return here, there


def _only_in_one(first: _Side, second: _Side) -> tuple[str, ...]:
    """The names of columns that one side alone has, or that are numbers on one side alone."""
    if first.names == second.names and first.texts.keys() == second.texts.keys():
        return ()
    shared = set(first.names) & set(second.names) | set(first.texts) & set(second.texts)
    return tuple(name for side in (first, second) for name in (*side.names, *side.texts) if name not in shared)


def _sides(
    store: Store,
    key: str | Key,
    wanted: list[Any],
    *,
    is_label: bool,
    columns: Any,
    unit: Any,
    reduce: str,
    exact: bool,
) -> list[_Side]:
    """Rows of one intermediate, read together."""
    capture, node = find(store, key)
    chosen = select_columns(node, columns, unit)
    check_reduce(reduce, node, chosen)
    at = np.array([one_row(store, capture, node.n_rows, row, is_label=is_label) for row in wanted])
    values, plan = execute(store, capture, node, rows=at, columns=chosen, exact=exact)
    labels, names = labels_of(store, capture, node.n_rows, at), names_of(node, chosen, reduce)
    is_numbered = node.columns is None
    if isinstance(values.parts, list):
        parts = values.parts
        return [_Side(label, *_row_of(parts, i, names), plan, is_numbered) for i, label in enumerate(labels)]
    numbers = numbers_of(values)
    flat = (in_columns(numbers) if reduce == "none" else reduced(numbers, reduce)).astype(np.float64)
    return [_Side(label, names, row, {}, plan, is_numbered) for label, row in zip(labels, flat, strict=True)]


def _row_of(columns: list[Column], place: int, names: list[str]) -> tuple[list[str], np.ndarray, dict[str, Any]]:
    """Of a row of a table: the names and values of its numbers, and what is no number."""
    named, numbers, texts = [], [], {}
    for name, column in zip(names, columns, strict=True):
        value = numpy_column(column)[place]
        if is_number(column.type):
            named.append(name)
            numbers.append(np.nan if value is None else float(value))
        else:
            texts[name] = value
    return named, np.array(numbers, np.float64), texts


def _pair(rows: Any, positions: Any) -> tuple[Any, Any]:
    if (rows is None) == (positions is None):
        raise QueryError("rows: expected rows=(first, second) by label, or positions=(first, second)")
    given = positions if rows is None else rows
    if isinstance(given, (str, bytes)) or not hasattr(given, "__len__") or len(given) != 2:
        raise QueryError(
            f"{'positions' if rows is None else 'rows'}: expected two rows, (first, second), got {given!r}"
        )
    return given[0], given[1]


def _largest_first(a: np.ndarray, b: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """What one row alone has, then by size, then what both lack; ties in the order of the columns."""
    lacking = np.isnan(a).astype(int) + np.isnan(b)
    size = np.where(lacking == 1, np.inf, np.where(lacking == 2, -1.0, np.abs(difference)))
    return np.lexsort((np.arange(len(size)), -size, lacking != 1))
