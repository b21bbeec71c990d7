"""SVCCA: how much of one layer another one holds too, up to a linear map."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.planner.plan import Plan, format_bound
from mistique.queries.answer import Plotted
from mistique.queries.directions import (
    MOST_COLUMNS,
    Moments,
    check_room,
    directions_of_columns,
    directions_of_rows,
    products_of_rows,
)
from mistique.queries.portions import Portions, number_columns
from mistique.queries.positions import check_reduce
from mistique.queries.selection import find_each
from mistique.queries.similarity import common_rows
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store


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
        As many directions as rows, of which nothing can be said: two random matrices of 50 x 100 would score 0.945; a
        layer that does not vary, or holds nulls, NaN or infinities; more than 16,384 columns and rows.

    Notes
    -----
    The paper's algorithm 1; Raghu et al. 2017, arXiv 1706.05806. Covariances are summed in float64 over portions of
    rows, around the means of the first, so layers may be larger than memory; the singular vectors of a layer follow
    from those of its covariance. Where there are more columns than rows, or more than 16,384, the products of rows are
    summed over groups of columns in its place. Held by ``tests/queries/test_svcca.py`` against singular value
    decompositions.

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
    named = find_each(store, [key, other])
    sides = []
    rows = common_rows(store, named)
    for (capture, node), which, given in zip(named, rows, (columns, other_columns), strict=True):
        chosen, _ = number_columns(node, given, None)
        check_reduce(reduce, node, chosen)
        sides.append(Portions(store, capture, node, rows=which, columns=chosen, exact=exact))
    n_rows, n_columns = sides[0].n_rows, (_width(sides[0], reduce), _width(sides[1], reduce))
    between = _between(sides, n_columns, reduce=reduce, variance=variance)
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
        n_rows,
        n_columns,
        (between.shape[0], between.shape[1]),
        float(variance),
        _store=store,
    )


def _width(side: Portions, reduce: str) -> int:
    """Columns that are compared."""
    node = side.intermediate
    return side.n_columns if reduce == "none" or node.is_table else side.n_columns // node.positions


def _between(sides: list[Portions], n_columns: tuple[int, int], *, reduce: str, variance: float) -> np.ndarray:
    """The products of the directions of one layer with those of the other: their singular values are correlations."""
    n_rows, names = sides[0].n_rows, [side.intermediate.name for side in sides]
    if max(n_columns) < n_rows and max(n_columns) <= MOST_COLUMNS:
        sums = Moments(sides, reduce)
        parts = zip(sums.covariances(), names, strict=True)
        first, second = (directions_of_columns(covariance, variance, name) for covariance, name in parts)
        return np.asarray(first.T @ sums.covariance_between() @ second)
    if n_rows > MOST_COLUMNS:
        raise QueryError(
            f"{' and '.join(names)}: {max(n_columns):,} columns and {n_rows:,} rows, one of which is expected to be at "
            f'most {MOST_COLUMNS:,}; give columns=, or reduce="mean" for one a unit'
        )
    if not n_rows:
        raise QueryError("the two layers have no rows")
    pairs = zip(sides, names, strict=True)
    first, second = (directions_of_rows(products_of_rows(side, reduce), variance, name) for side, name in pairs)
    instead = 'take more rows, variance= lower, or reduce="mean" for one column a unit'
    check_room((first.shape[1], second.shape[1]), n_rows, instead=instead)
    return np.asarray(first.T @ second)
