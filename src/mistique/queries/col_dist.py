"""COL_DIST: how the values of a column or unit are distributed, by group too."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import execute
from mistique.planner.plan import format_bound
from mistique.queries.answer import Plotted, format_value
from mistique.queries.selection import find, group_of_rows, in_order, select_columns
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store

_MAX_NAMES = 30
_SHOWN_GROUPS, _SHOWN_BINS = 6, 20


@dataclass(frozen=True, eq=False, repr=False)
class ColDist(Plotted):
    """Counts of values by bin, a row for each group. Made by `col_dist`.

    ``values`` has shape (n_groups, n_bins), ``rows`` are the groups, ``columns`` the bins. ``max_abs_error`` is that of
    the values that are counted: one that lies so near to an edge may be in the bin beside its own.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,), optional
        Of the bins; None when each bin is one value.
    n_not_finite : ndarray of shape (n_groups,), int64
        Values that are null, NaN or infinite, in no bin.
    by : str
        What the groups are of.
    name : str
        Of the column or unit.
    """

    _dims: ClassVar[tuple[str, ...]] = ("group", "bin")

    edges: np.ndarray | None
    n_not_finite: np.ndarray
    by: str
    name: str

    def _title(self) -> str:
        return f"Distribution of {self.name} in {self.key}" + (f" by {self.by}" if self.by else "")

    def _head(self) -> list[str]:
        return [self.name, *(f"{self.by} {group}" if self.by else "count" for group in self.rows[:_SHOWN_GROUPS])]

    def _body(self) -> list[list[str]]:
        shown = self.values[:_SHOWN_GROUPS].T[:_SHOWN_BINS]
        return [
            [name, *(format_value(int(n)) for n in counts)] for name, counts in zip(self.columns, shown, strict=False)
        ]

    def _more(self) -> list[str]:
        n = int(self.n_not_finite.sum())
        notes = [f"{n:,} values are null, NaN or infinite"] if n else []
        if len(self.rows) > _SHOWN_GROUPS or len(self.columns) > _SHOWN_BINS:
            notes.append(f"... {len(self.rows):,} groups x {len(self.columns):,} bins in all")
        bound = format_bound(self.max_abs_error).replace("each value", "each value counted")
        return [*notes, f"{bound}; {self.plan}"]


def col_dist(
    store: Store,
    key: str | Key,
    *,
    column: str | int | None = None,
    unit: int | None = None,
    bins: int = 20,
    by: Any = None,
    exact: bool = False,
) -> ColDist:
    """The distribution of a column, a unit, or all values of an intermediate.

    Parameters
    ----------
    store : Store
    key : str or Key
    column : str or int, optional
    unit : int, optional
        With all of its positions. With neither: every value.
    bins : int, default 20
        Of equal width. Text and categories have a bin for each value, the 30 most frequent.
    by : str or array of shape (n_rows,), optional
        Groups: a column of the input, an intermediate of one column such as ``target``, or a group for each row.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    ColDist

    Raises
    ------
    QueryError
        An unknown column, unit or group.

    Notes
    -----
    The paper's COL_DIST (table 1). Counts sum to the number of values, less those that are not finite.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.arange(8.0).reshape(4, 2), np.arange(4.0))
    >>> mistique.col_dist(store, "demo/ridge@latest/train/input", column=1, bins=2).values
    array([[2, 2]])
    """
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 1:
        raise QueryError(f"bins: expected a number of bins, at least 1, got {bins!r}")
    capture, intermediate = find(store, key)
    columns = select_columns(intermediate, column, unit)
    values, plan = execute(store, capture, intermediate, columns=columns, exact=exact)
    table = values.to_numpy().reshape(intermediate.n_rows, -1)
    by_name, groups = ("", np.zeros(len(table), int)) if by is None else group_of_rows(store, capture, len(table), by)
    listed = in_order(groups)
    parts = [table[groups == group].reshape(-1) for group in listed]
    if table.dtype.kind in "iuf" or table.dtype.name == "bfloat16":
        counts, names, edges, n_not_finite = _numbers([part.astype(np.float64) for part in parts], bins)
    else:
        counts, names, n_not_finite = _values(parts)
        edges = None
    name = f"unit {unit}" if unit is not None else values.names()[0] if table.shape[1] == 1 else intermediate.name
    return ColDist(
        plan.key,
        counts,
        np.array(listed if by_name else ["all"]),
        tuple(names),
        plan.max_abs_error or 0.0,
        plan,
        edges,
        n_not_finite,
        by_name,
        name,
        _store=store,
    )


def _numbers(parts: list[np.ndarray], bins: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    finite = [part[np.isfinite(part)] for part in parts]
    low = min((part.min() for part in finite if len(part)), default=0.0)
    high = max((part.max() for part in finite if len(part)), default=1.0)
    edges = _edges(float(low), float(high), bins)
    counts = np.stack([np.histogram(part, edges)[0] for part in finite])
    names = [f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges)]
    lost = np.array([len(part) - len(kept) for part, kept in zip(parts, finite, strict=True)])
    return counts, names, edges, lost


def _edges(low: float, high: float, bins: int) -> np.ndarray:
    """Edges of equal bins; of fewer bins where there are not so many floats between the two."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    # Divided first: the distance between the two may be too large for a float.
    width = high / bins - low / bins
    if low + width > low and high - width < high and np.isfinite(width * bins):
        return np.histogram_bin_edges(np.array([low, high]), bins)
    parts = np.linspace(0.0, 1.0, bins + 1)
    edges = np.unique(low * (1.0 - parts) + high * parts)
    return edges if len(edges) > 1 else np.array([np.nextafter(low, -np.inf), np.nextafter(high, np.inf)])


def _values(parts: list[np.ndarray]) -> tuple[np.ndarray, list[str], np.ndarray]:
    texts = [np.array([str(value) for value in part if value is not None], object) for part in parts]
    everything = np.concatenate(texts) if texts else np.empty(0, object)
    names, totals = np.unique(everything.astype(str), return_counts=True)
    kept = names[np.argsort(-totals, kind="stable")[:_MAX_NAMES]]
    counts = np.array([[int((part == name).sum()) for name in kept] for part in texts])
    nulls = np.array([len(part) - len(text) for part, text in zip(parts, texts, strict=True)])
    return counts, kept.tolist(), nulls
