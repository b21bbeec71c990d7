"""The row that a question is about: a captured one, by label or position, or an example that never was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.planner.examples import run_on
from mistique.planner.execute import execute
from mistique.planner.plan import Plan
from mistique.planner.values import Values
from mistique.queries.portions import Portions, numbers_of
from mistique.queries.selection import labels_of, one_row
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False)
class QueryRow:
    """A row, and what it is called.

    Parameters
    ----------
    numbers : ndarray of shape (1, n_positions, n_units) or (1, n_columns), float64
    label : object
        None for an example.
    position : int, optional
        In the dataset; None for an example.
    plan : Plan, optional
        The road taken for it; None for an example, for which the model was run.
    max_abs_error : float
        Of its values.
    """

    numbers: np.ndarray
    label: Any
    position: int | None
    plan: Plan | None
    max_abs_error: float


def query_row(
    store: Store,
    capture: Capture,
    node: Intermediate,
    *,
    row: Any,
    position: int | None,
    example: Any,
    columns: np.ndarray | None,
    exact: bool,
    portions: Portions | None = None,
) -> QueryRow:
    """The row that one of `row`, `position` and `example` names, of some columns.

    Of `portions`, where all of the same columns of an array will be taken: the portion that holds it is taken first.

    Raises
    ------
    QueryError
        Not one of them was given, or there is no such row, or it has nulls or NaN.
    ModelMismatchError, NoPlanError, UntrustedArtifactError
        The model cannot be run on the example.
    """
    if sum(given is not None for given in (row, position, example)) != 1:
        raise QueryError("give one of row= (a label), position= (a number) or example= (a new row of input)")
    if example is not None:
        values = run_on(store, capture, node, example, columns=columns)
        return QueryRow(_complete(values), None, None, None, node.recompute_difference or 0.0)
    given = position if row is None else row
    at = one_row(store, capture, node.n_rows, given, is_label=row is not None)
    label = labels_of(store, capture, node.n_rows, np.array([at]))[0]
    if portions is not None:
        numbers = _complete(portions.row(at))
        return QueryRow(numbers, label, at, portions.plan(), portions.max_abs_error)
    values, plan = execute(store, capture, node, rows=np.array([at]), columns=columns, exact=exact)
    return QueryRow(_complete(values), label, at, plan, plan.max_abs_error or 0.0)


def _complete(given: Values | np.ndarray) -> np.ndarray:
    numbers = (numbers_of(given) if isinstance(given, Values) else given).astype(np.float64)
    missing = np.isnan(numbers).reshape(-1)
    if not missing.any():
        return numbers
    if isinstance(given, Values) and isinstance(given.parts, list):
        names = [name for name, is_missing in zip(given.names(), missing, strict=True) if is_missing]
        raise QueryError(f"the row has no value in {', '.join(names[:6])}: choose other columns with columns=")
    raise QueryError(f"the row has {int(missing.sum())} values that are NaN: choose other units with unit=")
