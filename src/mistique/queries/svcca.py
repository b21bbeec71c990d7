"""SVCCA: how much of one layer another one holds too, up to a linear map."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.planner.plan import Plan, format_bound
from mistique.queries.answer import Plotted
from mistique.queries.portions import CELLS_AT_ONCE, Portions, number_columns
from mistique.queries.positions import check_reduce, reduced
from mistique.queries.similarity import check_finite, common_rows
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store

# Its covariance is 2 GB, and takes a quarter of an hour to decompose.
_MOST_COLUMNS = 16_384
# Of the largest: what is smaller is rounding of the covariance, no direction.
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class Svcca(Plotted):
    """Canonical correlations of two layers, largest first. Made by `svcca`.

    ``values`` has shape (n_correlations,), float64. ``max_abs_error`` is infinite where values are quantized: what
    their errors make of a correlation is not bounded.

    Parameters
    ----------
    other : str
        The key of the second layer.
    other_plan : Plan
        The road taken for it.
    n_rows : int
        Rows that both have in common.
    n_columns, n_directions : tuple of int
        Columns of either layer, and how many directions of most variance were kept of them.
    variance : float
        The share of the variance that these hold.
    """

    other: str
    other_plan: Plan
    n_rows: int
    n_columns: tuple[int, int]
    n_directions: tuple[int, int]
    variance: float

    @property
    def coefficient(self) -> float:
        """The mean correlation: their sum over the smaller number of directions."""
        return float(self.values.mean())

    @property
    def chance(self) -> float:
        """What the coefficient of layers with nothing in common would be about, at most, with so many rows."""
        return min(1.0, sqrt(max(self.n_directions) / (self.n_rows - 1)))

    def _title(self) -> str:
        return f"SVCCA of {self.key} and {self.other}"

    def _head(self) -> list[str]:
        return ["", "correlation"]

    def _more(self) -> list[str]:
        kept = " and ".join(f"{k:,} of {n:,}" for k, n in zip(self.n_directions, self.n_columns, strict=True))
        return [
            f"mean {self.coefficient:.4f} over {len(self.values):,} correlations; layers with nothing in common: "
            f"about {self.chance:.2f}",
            f"{kept} directions hold {self.variance:.4g} of the variance; {self.n_rows:,} rows",
            f"{format_bound(self.max_abs_error)}; {self.plan}; the other: {self.other_plan}",
        ]


def svcca(
    store: Store,
    key: str | Key,
    *,
    other: str | Key,
    variance: float = 0.99,
    columns: Any = None,
    other_columns: Any = None,
    reduce: str = "none",
    exact: bool = False,
) -> Svcca:
    """Canonical correlations of two layers, each cut to the directions of most variance.

    Parameters
    ----------
    store : Store
    key, other : str or Key
        Two intermediates over the same rows, which are matched by label.
    variance : float, default 0.99
        Share of the variance that the kept directions hold, over 0 and up to 1.
    columns, other_columns : str, int or list of them, optional
        Of the first and of the second. Default: all that hold numbers.
    reduce : {"none", "mean", "max"}, default "none"
        Over the positions of each unit of a feature map. "none": every position is a column.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Svcca

    Raises
    ------
    QueryError
        No more rows than columns, of which nothing can be said: two random matrices of 50 x 100 would score 0.945; a
        layer that does not vary, or holds nulls, NaN or infinities; more than 16,384 columns.

    Notes
    -----
    The paper's algorithm 1; Raghu et al. 2017, arXiv 1706.05806. Covariances are summed in float64 over portions of
    rows, around the means of the first, so layers may be larger than memory; the singular vectors of a layer follow
    from those of its covariance. Held by ``tests/queries/test_svcca.py`` against singular value decompositions.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> _ = pipe.fit(x, x[:, 0])
    >>> round(mistique.svcca(store, "demo/ridge@1/train/input", other="demo/ridge@1/train/scale").coefficient, 6)
    1.0
    """
    if isinstance(variance, bool) or not isinstance(variance, (int, float)) or not 0 < variance <= 1:
        raise QueryError(f"variance: expected a share, over 0 and up to 1, got {variance!r}")
    named = [store.catalog.find(key), store.catalog.find(other)]
    sides = []
    rows = common_rows(store, named)
    for (capture, node), which, given in zip(named, rows, (columns, other_columns), strict=True):
        chosen, _ = number_columns(node, given, None)
        check_reduce(reduce, node, chosen)
        sides.append(Portions(store, capture, node, rows=which, columns=chosen, exact=exact))
    sums = _Moments(sides, reduce)
    kept = [_directions(part, variance, side) for part, side in zip(sums.covariances(), sides, strict=True)]
    between = kept[0].T @ sums.covariance_between() @ kept[1]
    plans = [side.plan() for side in sides]
    return Svcca(
        plans[0].key,
        np.clip(np.linalg.svd(between, compute_uv=False), 0.0, 1.0),
        np.arange(min(between.shape)),
        ("correlation",),
        0.0 if not any(side.max_abs_error for side in sides) else float("inf"),
        plans[0],
        plans[1].key,
        plans[1],
        sides[0].n_rows,
        (len(kept[0]), len(kept[1])),
        (between.shape[0], between.shape[1]),
        float(variance),
        _store=store,
    )


class _Moments:
    """Sums of products of the columns of two layers, taken a portion of rows at a time."""

    def __init__(self, sides: list[Portions], reduce: str) -> None:
        self._n_rows = sides[0].n_rows
        self._shifts: list[np.ndarray] = []
        height = max(side.intermediate.block_rows for side in sides)
        step = max(CELLS_AT_ONCE // (height * max(side.n_columns for side in sides)), 1) * height
        for low in range(0, self._n_rows, step):
            high = min(low + step, self._n_rows)
            self._add(*(self._numbers(side, low, high, reduce) for side in sides))
        if not self._n_rows:
            raise QueryError("the two layers have no rows")

    def _numbers(self, side: Portions, low: int, high: int, reduce: str) -> np.ndarray:
        numbers = reduced(side.take(low, high), reduce)
        n_columns = numbers.shape[1]
        of = f"{side.intermediate.name} has {n_columns:,} columns"
        hint = 'give columns=, or reduce="mean" for one a unit'
        if n_columns > _MOST_COLUMNS:
            raise QueryError(f"{of}: expected at most {_MOST_COLUMNS:,}; {hint}")
        if self._n_rows <= n_columns:
            raise QueryError(
                f"{of} and {self._n_rows:,} rows: expected more rows than columns, as with fewer even unrelated layers "
                f"correlate; capture more rows, {hint}"
            )
        check_finite(numbers, side.intermediate.name)
        return numbers.astype(np.float64)

    def _add(self, x: np.ndarray, y: np.ndarray) -> None:
        if not self._shifts:
            # Around about the mean: the products of large numbers would drown the covariance.
            self._shifts = [x.mean(axis=0), y.mean(axis=0)]
            self._sums = [np.zeros(x.shape[1]), np.zeros(y.shape[1])]
            self._xx, self._yy = np.zeros((x.shape[1],) * 2), np.zeros((y.shape[1],) * 2)
            self._xy = np.zeros((x.shape[1], y.shape[1]))
        x -= self._shifts[0]
        y -= self._shifts[1]
        self._sums[0] += x.sum(axis=0)
        self._sums[1] += y.sum(axis=0)
        self._xx += x.T @ x
        self._yy += y.T @ y
        self._xy += x.T @ y

    def covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each layer with itself, times the number of rows."""
        x, y = self._sums
        self._xx -= np.outer(x, x) / self._n_rows
        self._yy -= np.outer(y, y) / self._n_rows
        return self._xx, self._yy

    def covariance_between(self) -> np.ndarray:
        """Of one with the other, times the number of rows."""
        return self._xy - np.outer(*self._sums) / self._n_rows


def _directions(covariance: np.ndarray, variance: float, side: Portions) -> np.ndarray:
    """What takes columns to the directions of most variance, each of length 1 over all rows."""
    squares, vectors = np.linalg.eigh(covariance)
    squares, vectors = squares[::-1].clip(min=0), vectors[:, ::-1]
    if not squares[0] > 0:
        raise QueryError(f"{side.intermediate.name} is the same in every row: it correlates with nothing")
    shares = np.cumsum(squares) / squares.sum()
    n_kept = int(np.searchsorted(shares, variance)) + 1
    n_kept = min(n_kept, int((squares > _LEAST_VARIANCE * squares[0]).sum()))
    return np.asarray(vectors[:, :n_kept] / np.sqrt(squares[:n_kept]))
