"""TOPK: the rows on which a unit, a column, or a group of them is largest."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.queries.contenders import Contenders, contenders
from mistique.queries.examples import Examples
from mistique.queries.portions import Portions, number_columns
from mistique.queries.positions import names_of
from mistique.queries.query_row import query_row
from mistique.queries.selection import find, labels_of, select_columns
from mistique.schema import Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

COMBINATIONS = ("sum", "mean", "max", "euclidean", "manhattan")


@dataclass(frozen=True, eq=False, repr=False)
class TopK(Examples):
    """The rows with the largest values, largest first, or the smallest. Made by `topk`.

    Parameters
    ----------
    largest : bool
    places : ndarray of shape (k, n_dimensions), int64, optional
        Of a unit reduced by its maximum: where on the feature map that is, the first where it is there twice.
    """

    largest: bool
    places: np.ndarray | None

    @property
    def order(self) -> str:
        """What they are: "largest" or "smallest"."""
        return "largest" if self.largest else "smallest"

    def _title(self) -> str:
        return f"Rows with the {self.order} {self.columns[0]} in {self.key}"

    def _head(self) -> list[str]:
        return [*super()._head(), *([] if self.places is None else ["at"])]

    def _body(self) -> list[list[str]]:
        body = super()._body()
        if self.places is None:
            return body
        return [[*row, ",".join(map(str, place))] for row, place in zip(body, self.places.tolist(), strict=False)]


def topk(
    store: Store,
    key: str | Key,
    *,
    k: int = 10,
    unit: int | list[int] | None = None,
    column: str | int | None = None,
    columns: list[str | int] | None = None,
    row: Any = None,
    position: int | None = None,
    example: Any = None,
    n_units: int = 3,
    largest: bool = True,
    reduce: str = "max",
    combine: str = "sum",
    exact: bool = False,
) -> TopK:
    """The k rows on which a unit, a column, or a group of them is largest.

    Parameters
    ----------
    store : Store
    key : str or Key
    k : int, default 10
    unit : int or list of int, optional
        Neurons, or channels of a feature map: the positions of each are reduced to one number.
    column : str or int, optional
        A column by name or number. Neither is needed where there is only one.
    columns : list of str or int, optional
        A group of columns.
    row : label, optional
        In place of these: the units, or columns of a table, that are largest in this row.
    position : int, optional
        Or in the row at this position of the dataset, from the end where negative.
    example : array, frame, series or mapping, optional
        Or in a row of input that was never captured, as the model takes it; the model is run on it.
    n_units : int, default 3
        How many of them are the group, at most.
    largest : bool, default True
        False: the smallest first.
    reduce : {"max", "mean"}, default "max"
        Over the positions of a unit.
    combine : {"sum", "mean", "max", "euclidean", "manhattan"}, default "sum"
        Of the units or columns of a group; the last two are distances from zero. To be near to another row rather than
        far from zero, see `knn`.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    TopK
        ``values`` of shape (k,). Ties go to the earlier row, infinities come first, NaN last.

    Raises
    ------
    QueryError
        An unknown unit, column or row, columns that hold no numbers, or `k` below 1.
    IntermediateNotFoundError
    ModelMismatchError, NoPlanError, UntrustedArtifactError
        The model cannot be run on the example.

    Notes
    -----
    The paper's TOPK (table 1); of a group, the highest of DeepEverest (He et al. 2021, doi 10.14778/3485450.3485460).
    Rows are taken in portions. With quantized values the order is right up to twice ``max_abs_error``, which is that of
    the combination.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.array([[0.0, 9.0], [3.0, 1.0], [1.0, 1.0]]), np.array([0.0, 3.0, 1.0]))
    >>> mistique.topk(store, "demo/ridge@latest/train/input", column=0, k=2).rows
    array([1, 2])
    >>> mistique.topk(store, "demo/ridge@latest/train/input", columns=[0, 1], k=2).values
    array([9., 4.])
    >>> mistique.topk(store, "demo/ridge@latest/train/input", example=[2.0, 8.0], n_units=1, k=1).columns
    ('1',)
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise QueryError(f"k: expected a number of rows, at least 1, got {k!r}")
    if reduce not in ("max", "mean"):
        raise QueryError(f'reduce: expected "max" or "mean", got {reduce!r}')
    if combine not in COMBINATIONS:
        raise QueryError(f"combine: expected one of {', '.join(COMBINATIONS)}, got {combine!r}")
    if column is not None and columns is not None:
        raise QueryError("give column= (one) or columns= (a group), not both")
    capture, node = find(store, key)
    if any(given is not None for given in (row, position, example)):
        if any(given is not None for given in (unit, column, columns)):
            raise QueryError("give units or columns, or the row that says which, not both")
        which = _largest_in(store, capture, node, n_units, reduce, exact, row=row, position=position, example=example)
        unit, columns = (None, which) if node.is_table else (which, None)
    asked = column if columns is None else columns
    if unit is None and asked is None:
        if node.n_columns != 1:
            what = f"{node.n_units} units" if not node.is_table else f"{node.n_columns} columns"
            raise QueryError(f"{node.name} has {what}: say which with unit= or column=")
        asked = 0
    chosen = select_columns(node, asked, unit)
    assert chosen is not None
    of_largest = unit is not None and reduce == "max"
    bounded = _Bounded(reduce, combine, largest)
    # The ends of a single column are in its index.
    limits: dict[str, Any] = {"k": int(k), "n_read": int(k) if len(chosen) > 1 else 0, "exact": exact}
    portions = contenders(store, capture, node, columns=chosen, scores=bounded, **limits) or Portions(
        store, capture, node, columns=chosen, exact=exact, of_largest=of_largest
    )
    scores, places = _scores(portions, node, reduce, combine)
    keyed = np.where(np.isnan(scores), -np.inf, scores if largest else -scores)
    # NaN after everything, -inf included.
    order = np.lexsort((np.arange(len(scores)), -keyed, np.isnan(scores)))[:k]
    name, n_combined = _name(node, chosen, unit, reduce, combine)
    error = portions.max_abs_error * {"sum": n_combined, "manhattan": n_combined, "euclidean": sqrt(n_combined)}.get(
        combine if n_combined > 1 else "", 1
    )
    plan = portions.plan()
    return TopK(
        plan.key,
        scores[order],
        labels_of(store, capture, node.n_rows, order),
        (name,),
        error,
        plan,
        order,
        largest,
        None if places is None else np.stack(np.unravel_index(places[order], node.shape[:-1]), axis=1),
        _store=store,
        _columns=chosen,
    )


def _largest_in(
    store: Store, capture: Capture, node: Intermediate, n_units: int, reduce: str, exact: bool, **row: Any
) -> list[Any]:
    """The units, or columns of a table, that are largest in a row; of equals the first."""
    numbered, _ = number_columns(node, None, None)
    columns = np.arange(node.n_columns) if numbered is None else numbered
    if isinstance(n_units, bool) or not isinstance(n_units, (int, np.integer)) or n_units < 1:
        raise QueryError(f"n_units: expected a number, at least 1, got {n_units!r}")
    found = query_row(store, capture, node, columns=numbered, exact=exact, **row)
    (numbers,) = _of_units(found.numbers, reduce)
    largest = np.argsort(-numbers, kind="stable")[:n_units]
    return list((columns[largest] if node.is_table else largest).tolist())


@dataclass(frozen=True)
class _Bounded:
    """The bounds of a row's rank that follow from the bounds of its values; every step is monotone, rounding too."""

    reduce: str
    combine: str
    largest: bool

    def __call__(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = (_of_units(bounds, self.reduce) for bounds in (lower, upper))
        if self.combine in ("euclidean", "manhattan") and lower.shape[1] > 1:
            lower, upper = np.maximum(np.maximum(lower, -upper), 0.0), np.maximum(np.abs(lower), np.abs(upper))
        low, high = (_score(bounds, self.combine) for bounds in (lower, upper))
        return (low, high) if self.largest else (-high, -low)


def _scores(
    portions: Portions | Contenders, node: Intermediate, reduce: str, combine: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """The number by which each row is ranked, NaN of those not taken, and where the maximum is of one unit's."""
    scores, places = np.full(node.n_rows, np.nan), np.zeros(node.n_rows, np.int64)
    has_place = False
    for rows, numbers in portions:
        by_column = np.ascontiguousarray(numbers, np.float64)
        if portions.places is not None and portions.places.shape[1] == 1:
            places[rows], has_place = portions.places[:, 0], True
        elif by_column.ndim == 3 and by_column.shape[2] == 1 and by_column.shape[1] > 1 and reduce == "max":
            places[rows], has_place = by_column[:, :, 0].argmax(axis=1), True
        scores[rows] = _score(_of_units(by_column, reduce), combine)
    return scores, places if has_place else None


def _of_units(numbers: np.ndarray, reduce: str) -> np.ndarray:
    if numbers.ndim < 3:
        return numbers
    return np.asarray(numbers.max(axis=1) if reduce == "max" else numbers.mean(axis=1))


def _score(by_column: np.ndarray, combine: str) -> np.ndarray:
    return by_column[:, 0] if by_column.shape[1] == 1 else _combined(by_column, combine)


def _combined(numbers: np.ndarray, combine: str) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf
        if combine == "euclidean":
            return np.asarray(np.sqrt(np.square(numbers).sum(axis=1)))
        if combine == "manhattan":
            return np.asarray(np.abs(numbers).sum(axis=1))
        if combine == "max":
            return np.asarray(numbers.max(axis=1))
        return np.asarray(numbers.sum(axis=1) if combine == "sum" else numbers.mean(axis=1))


def _name(node: Intermediate, chosen: np.ndarray, unit: Any, reduce: str, combine: str) -> tuple[str, int]:
    """What is ranked, and how many units or columns were combined."""
    of_positions = " (mean of its positions)" if unit is not None and reduce == "mean" and node.positions > 1 else ""
    if unit is not None:
        names = [str(u) for u in np.atleast_1d(unit).tolist()]
        what = "unit"
    else:
        names = names_of(node, chosen, "none")
        what = "column"
    if len(names) == 1:
        return (f"unit {names[0]}{of_positions}" if unit is not None else names[0]), 1
    shown = ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
    return f"{combine} of {what}s {shown}{of_positions.replace('its', 'their')}", len(names)
