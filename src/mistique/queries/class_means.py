"""VIS: the mean of every column or unit over each group of rows."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.queries.answer import Plotted
from mistique.queries.portions import Portions, in_columns, number_columns
from mistique.queries.positions import check_reduce, names_of, reduced
from mistique.queries.selection import find, group_of_rows, in_order
from mistique.queries.tallied import tallied
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class ClassMeans(Plotted):
    """Means, a row for each group and a column for each column or unit. Made by `class_means`.

    ``values`` has shape (n_groups, n_columns), float64; NaN where a group has no value in a column.

    Parameters
    ----------
    counts : ndarray of shape (n_groups, n_columns), int64
        Values that each mean is of: nulls and NaN are left out.
    n_rows : ndarray of shape (n_groups,), int64
        Rows of each group.
    by : str
        What the groups are of.
    left_out : tuple of str
        Columns that hold no numbers.
    what : {"unit", "column"}
        What a column of the answer is.
    """

    _dims: ClassVar[tuple[str, ...]] = ("group", "column")

    counts: np.ndarray
    n_rows: np.ndarray
    by: str
    left_out: tuple[str, ...]
    what: str

    def _title(self) -> str:
        return f"Mean of every {self.what} of {self.key} by {self.by}"

    def _head(self) -> list[str]:
        return [self.by, "n_rows", *super()._head()[1:]]

    def _body(self) -> list[list[str]]:
        rows = zip(super()._body(), self.n_rows, strict=False)
        return [[group, f"{n:,}", *cells] for (group, *cells), n in rows]

    def _more(self) -> list[str]:
        left_out = f"without {', '.join(self.left_out[:6])}: no numbers"
        return [*([left_out] if self.left_out else []), *super()._more()]


def class_means(
    store: Store,
    key: str | Key,
    *,
    by: Any = "target",
    columns: Any = None,
    unit: Any = None,
    reduce: str = "mean",
    exact: bool = False,
) -> ClassMeans:
    """The mean of every column or unit over each group of rows.

    Parameters
    ----------
    store : Store
    key : str or Key
    by : str or array of shape (n_rows,), default "target"
        Groups: an intermediate of one column, a column of the input, or a group for each row.
    columns : str, int or list of them, optional
        Default: all that hold numbers.
    unit : int or list of int, optional
    reduce : {"mean", "max", "none"}, default "mean"
        Over the positions of a feature map's unit, before the mean over rows. "none": a mean for every position.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    ClassMeans

    Raises
    ------
    QueryError
        An unknown column, unit or group, or columns that hold no numbers.

    Notes
    -----
    The paper's VIS (table 1, figure 9). Rows are read in portions and summed in float64, so a layer may be larger than
    memory. A mean of values that are each within a bound is within that bound. Where that pays, the sums are kept, and
    answer when the same is asked again.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.array([[1.0, 5.0], [3.0, 5.0], [7.0, 6.0]]), np.array([0, 0, 1]))
    >>> mistique.class_means(store, "demo/ridge@1/train/input").to_frame()
         0    1
    0  2.0  5.0
    1  7.0  6.0
    """
    capture, node = find(store, key)
    chosen, left_out = number_columns(node, columns, unit)
    check_reduce(reduce, node, chosen)
    by_name, groups = group_of_rows(store, capture, node.n_rows, by)
    listed = in_order(groups)
    distinct, code_of = np.unique(groups, return_inverse=True)
    place = np.array([listed.index(group) for group in distinct.tolist()], np.int64)
    codes = place[code_of.reshape(-1)]
    if not len(listed):
        raise QueryError(f"{node.name} has no rows")
    names = tuple(names_of(node, chosen, reduce))
    what = _what(by_name, repr(listed).encode(), codes, chosen, reduce)
    found = tallied(
        store,
        capture,
        node,
        what=what,
        shape=(2 * len(listed), len(names)),
        count=lambda portions: _sums(portions, codes, len(listed), reduce),
        columns=chosen,
        exact=exact,
    )
    sums, counts = found.figures.reshape(2, len(listed), -1)
    is_layer = not node.is_table and (reduce != "none" or node.positions == 1)
    return ClassMeans(
        found.plan.key,
        np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0),
        np.array(listed),
        names,
        found.max_abs_error,
        found.plan,
        counts.astype(np.int64),
        np.bincount(codes, minlength=len(listed)),
        by_name,
        tuple(left_out),
        "unit" if is_layer else "column",
        _store=store,
    )


def _what(by_name: str, groups: bytes, codes: np.ndarray, columns: np.ndarray | None, reduce: str) -> str:
    """What is summed, for whoever reads it, and a digest of the group of each row and of the columns."""
    asked = (groups, codes.tobytes(), b"" if columns is None else columns.tobytes())
    digest = blake2b(b"|".join(asked), digest_size=16).hexdigest()
    return f"sums by {by_name}, {reduce} of positions, {digest}"


def _sums(portions: Portions, codes: np.ndarray, n_groups: int, reduce: str) -> np.ndarray:
    """The sums of each group and then the numbers of values summed: (2 * n_groups, n_columns)."""
    sums = counts = np.zeros((n_groups, 0))
    n_positions = 1
    for rows, numbers in portions:
        if numbers.ndim == 3 and reduce != "max":
            n_positions = numbers.shape[1]
        table = reduced(numbers, "max" if reduce == "max" else "none")
        if not sums.shape[1]:
            sums, counts = np.zeros((2, n_groups, table.shape[1]))
        _add(table, codes[rows], sums, counts)
    if n_positions > 1:
        by_unit = (part.reshape(n_groups, n_positions, -1) for part in (sums, counts))
        sums, counts = (part.sum(axis=1) if reduce == "mean" else in_columns(part) for part in by_unit)
    return np.concatenate([sums, counts])


def _add(table: np.ndarray, codes: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    """Add the rows of each group to its sums."""
    members = (codes == np.arange(len(sums))[:, None]).astype(np.float64)
    if np.isfinite(table).all():
        sums += members @ table.astype(np.float64)
        counts += members.sum(axis=1, keepdims=True)
        return
    # A product would carry what is not finite into every group.
    for group, member in enumerate(members.astype(bool)):
        part = table[member]
        missing = np.isnan(part)
        with np.errstate(invalid="ignore"):  # inf - inf
            sums[group] += np.where(missing, 0.0, part).sum(axis=0, dtype=np.float64)
        counts[group] += (~missing).sum(axis=0)
