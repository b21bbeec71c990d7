"""TOPK: the rows on which a unit or column is largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import execute
from mistique.queries.examples import Examples
from mistique.queries.selection import labels_of, select_columns
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class TopK(Examples):
    """The rows with the largest values, largest first, or the smallest. Made by `topk`.

    Parameters
    ----------
    largest : bool
    """

    largest: bool

    @property
    def order(self) -> str:
        """What they are: "largest" or "smallest"."""
        return "largest" if self.largest else "smallest"


def topk(
    store: Store,
    key: str | Key,
    *,
    k: int = 10,
    unit: int | None = None,
    column: str | int | None = None,
    largest: bool = True,
    reduce: str = "max",
    exact: bool = False,
) -> TopK:
    """The k rows on which a unit or a column is largest.

    Parameters
    ----------
    store : Store
    key : str or Key
    k : int, default 10
    unit : int, optional
        A neuron, or a channel of a feature map: its positions are reduced to one number.
    column : str or int, optional
        A column by name or number. Neither is needed where there is only one.
    largest : bool, default True
        False: the smallest first.
    reduce : {"max", "mean"}, default "max"
        Over the positions of a unit.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    TopK
        ``values`` of shape (k,). Ties go to the earlier row, infinities come first, NaN last.

    Raises
    ------
    QueryError
        An unknown unit or column, or `k` below 1.
    IntermediateNotFoundError

    Notes
    -----
    The paper's TOPK (table 1). With quantized values the order is right up to twice ``max_abs_error``.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.array([[0.0], [3.0], [1.0]]), np.array([0.0, 3.0, 1.0]))
    >>> mistique.topk(store, "demo/ridge@latest/train/input", column=0, k=2).rows
    array([1, 2])
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise QueryError(f"k: expected a number of rows, at least 1, got {k!r}")
    if reduce not in ("max", "mean"):
        raise QueryError(f'reduce: expected "max" or "mean", got {reduce!r}')
    capture, intermediate = store.catalog.find(key)
    if unit is None and column is None:
        if intermediate.n_columns != 1:
            what = f"{intermediate.n_units} units" if not intermediate.is_table else f"{intermediate.n_columns} columns"
            raise QueryError(f"{intermediate.name} has {what}: say which with unit= or column=")
        column = 0
    columns = select_columns(intermediate, column, unit)
    values, plan = execute(store, capture, intermediate, columns=columns, exact=exact)
    table = values.to_numpy().reshape(intermediate.n_rows, -1)
    if table.dtype.kind not in "iufb" and table.dtype.name != "bfloat16":
        raise QueryError(f"{intermediate.name} column {column!r} holds {values.names()} that are not numbers")
    numbers = table.astype(np.float64)
    scores = numbers.max(axis=1) if reduce == "max" else numbers.mean(axis=1)
    keyed = np.where(np.isnan(scores), -np.inf, scores if largest else -scores)
    # NaN after everything, -inf included.
    order = np.lexsort((np.arange(len(scores)), -keyed, np.isnan(scores)))[:k]
    name = f"unit {unit}" if unit is not None else values.names()[0]
    return TopK(
        plan.key,
        scores[order],
        labels_of(store, capture, intermediate.n_rows, order),
        (name,),
        plan.max_abs_error or 0.0,
        plan,
        order,
        largest,
        _store=store,
        _columns=columns,
    )
