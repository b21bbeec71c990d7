"""COL_DIFF: where two models err differently, or two intermediates differ, by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import execute
from mistique.planner.plan import Plan
from mistique.queries.answer import Plotted
from mistique.queries.losses import loss_of_rows
from mistique.queries.selection import find, group_of_rows, in_order, labels_of, matched_rows, select_columns
from mistique.schema import TARGET, Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class ColDiff(Plotted):
    """Two columns compared, a row for each group. Made by `col_diff`.

    Columns: the number of rows; the mean measure of the first, of the second, their difference (second less first); the
    share of rows on which the first is better. ``max_abs_error`` is that of the difference, the bounds of both sides
    added, which the means are within too; the share has no bound. It is infinite of error
    rates of quantized values.

    Parameters
    ----------
    other : str
        The second key.
    measure : str
        ``absolute error``, ``error rate``, or ``value``.
    by : str
        What the groups are of.
    other_plan : Plan
        The road taken for the second.
    """

    _dims: ClassVar[tuple[str, ...]] = ("group", "figure")

    other: str
    measure: str
    by: str
    other_plan: Plan

    def _title(self) -> str:
        return f"{self.measure} of {self.key} against {self.other}"

    def _head(self) -> list[str]:
        return [self.by or "rows", *self.columns]


def col_diff(
    store: Store,
    key: str | Key,
    *,
    other: str | Key,
    by: Any = None,
    column: str | int | None = None,
    unit: int | None = None,
    exact: bool = False,
) -> ColDiff:
    """The error of two models by group; or, of what are not predictions, the difference of two columns.

    Parameters
    ----------
    store : Store
    key, other : str or Key
        Two intermediates. Two predictions over data with a target are compared by their errors: absolute for numbers,
        wrong or right for classes (of several columns, the largest is the class).
    by : str or array of shape (n_rows,), optional
        Groups, by rows of `key`: a column of its input, ``target``, or a group for each row.
    column, unit : optional
        Which column or unit, where there are several and they are no class scores.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    ColDiff

    Raises
    ------
    QueryError
        The two have no rows in common, or a column must be named.

    Notes
    -----
    The paper's COL_DIFF (table 1). Rows are matched by label, so two models may have seen them in any order; where a
    label occurs twice its rows are matched in order.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> x, y = np.arange(6.0).reshape(6, 1), np.arange(6.0)
    >>> for alpha in (0.0, 100.0):
    ...     pipe = Pipeline([("ridge", Ridge(alpha=alpha))]).set_capture(store, model=f"demo/ridge-{alpha:.0f}")
    ...     _ = pipe.fit(x, y)
    >>> answer = mistique.col_diff(
    ...     store, "demo/ridge-0@latest/train/prediction", other="demo/ridge-100@latest/train/prediction"
    ... )
    >>> answer.measure, int(answer.values[0, 0]), bool(answer.values[0, 1] < answer.values[0, 2])
    ('absolute error', 6, True)
    """
    first = _side(store, key, column, unit, exact)
    second = _side(store, other, column, unit, exact)
    rows, other_rows = matched_rows(first.labels, second.labels)
    if not len(rows):
        raise QueryError(f"{first.plan.key} and {second.plan.key} have no row label in common")
    if first.target is not None and second.target is not None:
        measure, measured = loss_of_rows(first.values, first.target)
        _, other_measured = loss_of_rows(second.values, second.target)
    else:
        measure, measured, other_measured = "value", first.numbers(), second.numbers()
    measured, other_measured = measured[rows], other_measured[other_rows]
    by_name, groups = ("", np.full(len(first.labels), "all"))
    if by is not None:
        by_name, groups = group_of_rows(store, first.capture, len(first.labels), by)
    groups = groups[rows]
    listed = in_order(groups)
    table = np.array([_compare(measured[groups == group], other_measured[groups == group]) for group in listed])
    names = [first.short_name, second.short_name]
    if names[0] == names[1]:
        names = [f"{name}@{side.capture.number}" for name, side in zip(names, (first, second), strict=True)]
    if names[0] == names[1]:
        names = ["first", "second"]
    bound = (first.plan.max_abs_error or 0.0) + (second.plan.max_abs_error or 0.0)
    return ColDiff(
        first.plan.key,
        table,
        np.array(listed),
        ("rows", *names, "difference", f"{names[0]} better" if measure != "value" else f"{names[0]} less"),
        float("inf") if measure == "error rate" and bound else bound,
        first.plan,
        second.plan.key,
        measure,
        by_name,
        second.plan,
        _store=store,
    )


@dataclass(frozen=True, eq=False)
class _Side:
    capture: Capture
    intermediate: Intermediate
    values: np.ndarray
    target: np.ndarray | None
    labels: np.ndarray
    plan: Plan

    @property
    def short_name(self) -> str:
        return self.capture.version.model.rpartition("/")[2]

    def numbers(self) -> np.ndarray:
        if self.values.dtype.kind not in "iufb" or self.values.ndim != 1:
            raise QueryError(f"{self.plan.key}: name one column of numbers with column= or unit=")
        return self.values.astype(np.float64)


def _side(store: Store, key: str | Key, column: Any, unit: Any, exact: bool) -> _Side:
    capture, intermediate = find(store, key)
    columns = select_columns(intermediate, column, unit)
    values, plan = execute(store, capture, intermediate, columns=columns, exact=exact)
    array = values.to_numpy().reshape(intermediate.n_rows, -1)
    target = None
    if intermediate.role == "prediction" and columns is None and TARGET in capture.intermediates:
        node = capture.intermediates[TARGET]
        if node.n_columns == 1 or node.n_columns == intermediate.n_columns:
            target = execute(store, capture, node)[0].to_numpy().reshape(node.n_rows, -1)
    labels = labels_of(store, capture, intermediate.n_rows, None)
    return _Side(capture, intermediate, array[:, 0] if array.shape[1] == 1 else array, target, labels, plan)


def _compare(first: np.ndarray, second: np.ndarray) -> list[float]:
    return [
        float(len(first)),
        float(first.mean()),
        float(second.mean()),
        float((second - first).mean()),
        float((first < second).mean()),
    ]
