"""CORR: which columns of one intermediate follow which of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.planner.plan import Plan, format_bound
from mistique.queries.answer import Plotted, format_value
from mistique.queries.portions import Portions, number_columns
from mistique.queries.positions import check_reduce, names_of, reduced
from mistique.queries.selection import find
from mistique.queries.similarity import common_rows, key_of
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store

# Pairs of columns; 128 MB for each of the five sums over them.
_MOST_PAIRS = 16 * 1024 * 1024
_SHOWN = 10
# Of the sum of squares: less is rounding, the column does not vary.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class Corr(Plotted):
    """Correlations of columns. Made by `corr`.

    ``values`` has shape (n_columns, n_other_columns), float64, -1 to 1; NaN where one of the two does not vary.
    ``rows`` are the columns of the first intermediate, ``columns`` those of the second. ``max_abs_error`` is infinite
    where values are quantized: what their errors make of a correlation is not bounded.

    Parameters
    ----------
    other : str
        Key of the second intermediate, or "values given".
    counts : ndarray of shape (n_columns, n_other_columns), int64
        Rows in which both have a value.
    other_plan : Plan, optional
        The road taken for it; None: it was given, or is the first.
    left_out : tuple of str
        Columns that hold no numbers.
    """

    other: str
    counts: np.ndarray
    other_plan: Plan | None
    left_out: tuple[str, ...]

    @property
    def strongest(self) -> list[tuple[str, str, float]]:
        """Pairs of different columns and their correlation, the strongest first, whatever its sign."""
        sizes = np.where(np.isnan(self.values), -1.0, np.abs(self.values))
        if self.other == self.key:
            sizes[np.tril_indices(len(sizes))] = -1.0  # each pair once
        order = np.argsort(-sizes, axis=None, kind="stable")
        first, second = np.unravel_index(order[sizes.reshape(-1)[order] >= 0], sizes.shape)
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return [(str(self.rows[i]), self.columns[j], float(self.values[i, j])) for i, j in pairs]

    def _title(self) -> str:
        return f"Correlations of {self.key} with {'itself' if self.other == self.key else self.other}"

    def _head(self) -> list[str]:
        return ["column", "with", "r"]

    def _body(self) -> list[list[str]]:
        return [[first, second, format_value(value)] for first, second, value in self.strongest[:_SHOWN]]

    def _more(self) -> list[str]:
        shape = f"{len(self.rows):,} x {len(self.columns):,} columns, {self.counts.max(initial=0):,} rows"
        left_out = [f"without {', '.join(self.left_out[:6])}: no numbers"] if self.left_out else []
        return [shape, *left_out, f"{format_bound(self.max_abs_error)}; {self.plan}"]


def corr(
    store: Store,
    key: str | Key,
    *,
    other: str | Key | np.ndarray | None = None,
    columns: Any = None,
    other_columns: Any = None,
    reduce: str = "mean",
    exact: bool = False,
) -> Corr:
    """The correlation of each column of an intermediate with each of another, over the rows that both have.

    Parameters
    ----------
    store : Store
    key : str or Key
    other : str, Key or array of shape (n_rows,) or (n_rows, n_columns), optional
        An intermediate, whose rows are matched by label; or values for each row of the dataset, such as the residuals.
        Default: `key` itself.
    columns, other_columns : str, int or list of them, optional
        Of the first and of the second. Default: all that hold numbers.
    reduce : {"mean", "max"}, default "mean"
        Over the positions of each unit of a feature map.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Corr

    Raises
    ------
    QueryError
        Unknown columns, columns that hold no numbers, values for other rows, no row in common, or over 16 million
        pairs of columns.

    Notes
    -----
    The paper's CORR (table 1). Pearson's, of the rows in which both have a finite value, pair by pair, as `pandas` has
    it; rows are taken in portions, around the means of the first. Held by ``tests/queries/test_corr.py``.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge").fit(x, x[:, 0])
    >>> residuals = x[:, 0] - pipe.predict(x)
    >>> mistique.corr(store, "demo/ridge@1/train/input", other=residuals).values[:, 0].round(3).tolist()
    [0.991, 0.002]
    """
    if reduce not in ("mean", "max"):
        raise QueryError(f'reduce: expected "mean" or "max", got {reduce!r}')
    named = [find(store, key)]
    if not (other is None or isinstance(other, np.ndarray)):
        named.append(find(store, other))
    sides, names, left_out = [], [], []
    for (capture, node), rows, asked in zip(named, common_rows(store, named), (columns, other_columns), strict=False):
        chosen, others = number_columns(node, asked, None)
        check_reduce(reduce, node, chosen)
        sides.append(Portions(store, capture, node, rows=rows, columns=chosen, exact=exact))
        names.append(names_of(node, chosen, reduce))
        left_out += others
    given = _given(other, named[0][1].n_rows) if isinstance(other, np.ndarray) else None
    if given is not None:
        names.append([str(column) for column in range(given.shape[1])])
    if len(names[0]) * len(names[-1]) > _MOST_PAIRS:
        raise QueryError(
            f"{len(names[0]):,} x {len(names[-1]):,} columns are too many pairs: choose some with columns="
        )
    sums = _Sums(len(names[0]), len(names[-1]))
    step = min(side.rows_at_once for side in sides)
    for low in range(0, sides[0].n_rows, step):
        high = min(low + step, sides[0].n_rows)
        numbers = [reduced(side.take(low, high), reduce).astype(np.float64) for side in sides]
        sums.add(numbers[0], numbers[-1] if given is None else given[low:high])
    plans = [side.plan() for side in sides]
    return Corr(
        plans[0].key,
        sums.correlations(),
        np.array(names[0], object),
        tuple(names[-1]),
        float("inf") if any(side.max_abs_error for side in sides) else 0.0,
        plans[0],
        key_of(*named[-1]) if given is None else "values given",
        sums.n.astype(np.int64),
        plans[1] if len(plans) > 1 else None,
        tuple(left_out),
        _store=store,
    )


def _given(values: np.ndarray, n_rows: int) -> np.ndarray:
    if values.dtype.kind not in "iufb" or values.ndim not in (1, 2) or len(values) != n_rows:
        wanted = f"numbers for each of {n_rows:,} rows"
        raise QueryError(f"other: expected a key, or {wanted}, got {values.dtype} of shape {values.shape}")
    return values.astype(np.float64).reshape(n_rows, -1)


class _Sums:
    """Sums over the rows in which both columns of a pair have a value."""

    def __init__(self, n_columns: int, n_others: int) -> None:
        self.n, self._x, self._y, self._xx, self._yy, self._xy = np.zeros((6, n_columns, n_others))
        self._shifts: list[np.ndarray] = []

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        has_x, has_y = np.isfinite(x), np.isfinite(y)
        x, y = np.where(has_x, x, 0.0), np.where(has_y, y, 0.0)
        if not self._shifts:
            # Around about the mean: the products of large numbers would drown the covariance.
            self._shifts = [v.sum(axis=0) / has.sum(axis=0).clip(1) for v, has in ((x, has_x), (y, has_y))]
        x, y = (x - self._shifts[0]) * has_x, (y - self._shifts[1]) * has_y
        weight_x, weight_y = has_x.astype(np.float64), has_y.astype(np.float64)
        self.n += weight_x.T @ weight_y
        self._x += x.T @ weight_y
        self._y += weight_x.T @ y
        self._xx += (x * x).T @ weight_y
        self._yy += weight_x.T @ (y * y)
        self._xy += x.T @ y

    def correlations(self) -> np.ndarray:
        n = self.n.clip(1)
        spread_x, spread_y = self._xx - self._x**2 / n, self._yy - self._y**2 / n
        varies = (spread_x > _ROUNDING * self._xx) & (spread_y > _ROUNDING * self._yy)
        scale = np.sqrt(np.where(varies, spread_x * spread_y, np.nan))
        return np.asarray(np.clip((self._xy - self._x * self._y / n) / scale, -1.0, 1.0))
