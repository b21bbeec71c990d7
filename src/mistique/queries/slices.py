"""Where a model is wrong: the slices of the rows, by one and two columns, on which its error is largest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import execute
from mistique.queries.answer import Plotted
from mistique.queries.arguments import check_number
from mistique.queries.cuts import cut
from mistique.queries.losses import loss_of_rows
from mistique.queries.patterns import find_dataset, is_dataset
from mistique.queries.selection import find, labels_of
from mistique.queries.slice_search import Condition, SliceSearch
from mistique.schema import INPUT, PREDICTION, TARGET, Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class Slices(Plotted):
    """Slices of the rows, worst first. Made by `slices`.

    ``rows`` names each slice. Columns: its number of rows; its mean error; that of all other rows; the effect size, the
    difference in standard deviations; p, corrected. ``max_abs_error`` is infinite where predictions are quantized: an
    absolute error is then within their bound (``plan.max_abs_error``), the effect and p are not bounded.

    Parameters
    ----------
    measure : str
        What the error is.
    conditions : tuple
        Of each slice the columns and their groups: ``(("grade", "10 to 13"), ("view", "0"))``.
    overall : float
        Mean error of all rows.
    standard_errors : ndarray of shape (n_slices,), float64
        Of the mean error of each slice.
    n_looks : int
        Slices that were looked at, for which p is corrected.
    correction : str
    alpha : float
    """

    _dims: ClassVar[tuple[str, ...]] = ("slice", "figure")

    measure: str
    conditions: tuple[Condition, ...]
    overall: float
    standard_errors: np.ndarray
    n_looks: int
    correction: str
    alpha: float
    notes: tuple[str, ...] = ()
    _members: tuple[np.ndarray, ...] = field(default=(), kw_only=True)

    @property
    def n_significant(self) -> int:
        """Slices listed whose error is larger by more than chance."""
        return int((self.values[:, 4] < self.alpha).sum())

    def members(self, number: int = 0) -> np.ndarray:
        """The labels of the rows of one slice, by its number in the list."""
        if not 0 <= number < len(self._members):
            raise QueryError(f"expected the number of a slice, 0 to {len(self._members) - 1}, got {number!r}")
        return self._members[number]

    def _title(self) -> str:
        return f"Slices of {self.key} with the largest {self.measure}"

    def _head(self) -> list[str]:
        return ["slice", *self.columns]

    def _body(self) -> list[list[str]]:
        lines = []
        for condition, (n, error, elsewhere, effect, p) in zip(self.conditions, self.values.tolist(), strict=True):
            first, *more = (f"{name} {group}" for name, group in condition)
            shown = "no spread" if np.isinf(effect) else f"{effect:.2f}"
            lines.append([first, f"{n:,.0f}", _short(error), _short(elsewhere), shown, f"{p:.1g}"])
            # A line of its own: two names and two ranges are too long for one.
            lines.extend([f"  and {one}", *[""] * len(self.columns)] for one in more)
        return lines[:40]

    def _more(self) -> list[str]:
        looked = (
            f"{self.measure} of all rows: {_short(self.overall)}; {self.n_significant} of these {len(self)} slices "
            f"with p below {self.alpha:g}, corrected for {self.n_looks:,} looks ({self.correction})"
        )
        return [looked, *self.notes, *super()._more()[-1:]]


def slices(
    store: Store,
    key: str | Key,
    *,
    by: Any = None,
    loss: str | Callable[..., Any] | np.ndarray | None = None,
    k: int = 10,
    bins: int = 4,
    min_rows: int = 30,
    correction: str = "holm",
    alpha: float = 0.05,
    exact: bool = False,
) -> Slices:
    """The slices of the rows, over one and two columns, on which a model is most wrong.

    Parameters
    ----------
    store : Store
    key : str or Key
        A prediction over data with a target, or a dataset of a version.
    by : str, list of str, or frame, optional
        Columns of the input, or intermediates of one column such as ``target``; or a frame or mapping of columns with a
        value for each row, in the order of the dataset. None: all columns of the input; the target where the input is
        no table.
    loss : {"absolute", "squared", "error"}, callable or array of shape (n_rows,), optional
        The error of a row. None: wrong or right for classes, the absolute error for numbers.
    k : int, default 10
        Slices to list.
    bins : int, default 4
        Numbers are cut at their quantiles into so many groups.
    min_rows : int, default 30
        Smaller slices are not looked at.
    correction : {"holm", "benjamini-hochberg"}, default "holm"
        For the many looks. Slices overlap, and Holm's holds whatever they have in common.
    alpha : float, default 0.05
        Slices with a smaller corrected p come first.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Slices
        Those with corrected p below `alpha` by effect size, then the others by p. The effect is infinite where neither
        the slice nor the other rows have any spread.

    Raises
    ------
    QueryError
        No prediction with a target, unknown or no columns.

    Notes
    -----
    Effect size and test are those of Slice Finder (Chung et al., ICDE 2019, doi 10.1109/ICDE.2019.00139): Welch's t,
    one-sided, and ``sqrt(2) * (mean - mean of the others) / sqrt(variance + variance of the others)``. A slice of two
    columns has to be worse than the rest of the data and than the rest of each of the two slices it lies in: its p is
    the largest of the three, so a pair is not listed for what one of its columns explains. With more than 30 columns,
    pairs are made of the 30 whose slices differ most; the others count as looks too.

    Examples
    --------
    >>> import mistique, numpy as np, pandas as pd, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> x = pd.DataFrame({"size": np.arange(400.0), "kind": np.arange(400) % 2})
    >>> y = x["size"] + np.where((x["size"] >= 300) & (x["kind"] == 1), 500.0, 0.0)
    >>> _ = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge").fit(x, y)
    >>> worst = mistique.slices(store, "demo/ridge@latest/train/prediction", k=1)
    >>> worst.rows.tolist(), int(worst.values[0, 0]), worst.members(0)[:2].tolist()
    (['size 300 to 399, kind 1'], 50, [301, 303])
    """
    for name, value, least in (("k", k, 1), ("bins", bins, 2), ("min_rows", min_rows, 2)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise QueryError(f"{name}: expected a number, at least {least}, got {value!r}")
    check_number("alpha", alpha, over=0.0, up_to=1.0)
    capture, node = _prediction(store, key)
    target = capture.intermediates.get(TARGET)
    if target is None and (loss is None or isinstance(loss, str) or callable(loss)):
        raise QueryError(f"{capture.prefix} has no target to hold predictions against: give loss= as an array")
    values, plan = execute(store, capture, node, exact=exact)
    prediction = values.to_numpy().reshape(node.n_rows, -1)
    truth = prediction  # not looked at where the errors are given
    if target is not None:
        truth = execute(store, capture, target)[0].to_numpy().reshape(target.n_rows, -1)
    measure, errors = loss_of_rows(prediction, truth, loss=loss)
    is_finite = np.isfinite(errors)
    if is_finite.sum() < 2 * min_rows:
        raise QueryError(f"{plan.key}: {is_finite.sum()} rows have an error; slices of {min_rows} need twice as many")
    columns = {name: cut(column[is_finite], bins=bins) for name, column in _columns(store, capture, node, by).items()}
    search = SliceSearch(errors[is_finite], columns, min_rows, correction)
    is_found = search.corrected < alpha
    order = np.lexsort((-search.effect, np.where(is_found, 0.0, search.p), ~is_found))
    order = order[search.effect[order] > 0][: int(k)]
    kept = np.flatnonzero(is_finite)
    labels = labels_of(store, capture, node.n_rows, None)
    found = [search.slices[i] for i in order.tolist()]
    table = np.column_stack([search.n, search.mean, search.other_mean, search.effect, search.corrected])[order]
    return Slices(
        plan.key,
        table,
        np.array([", ".join(f"{name} {group}" for name, group in search.condition(one)) for one in found], object),
        ("rows", "error", "others", "effect", "p"),
        float("inf") if plan.max_abs_error else 0.0,
        plan,
        measure,
        tuple(search.condition(one) for one in found),
        float(errors[is_finite].mean()),
        np.sqrt(search.variance / search.n)[order],
        search.n_looks,
        correction,
        alpha,
        search.notes(n_without_error=int((~is_finite).sum())),
        _store=store,
        _members=tuple(labels[kept[search.is_in(one)]] for one in found),
    )


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _prediction(store: Store, key: str | Key) -> tuple[Capture, Intermediate]:
    if is_dataset(key):
        capture = find_dataset(store, key)
        return capture, capture.resolve(PREDICTION)
    capture, node = find(store, key)
    if node.role != "prediction":
        raise QueryError(f"{capture.prefix}/{node.name} is no prediction: ask for {capture.prefix}/{PREDICTION}")
    return capture, node


def _columns(store: Store, capture: Capture, node: Intermediate, by: Any) -> dict[str, np.ndarray]:
    """The columns to slice by, a value for each row."""
    if by is not None and not isinstance(by, (str, list, tuple)):
        return _given_columns(by, node.n_rows)
    given = capture.intermediates.get(INPUT)
    is_table = given is not None and (given.is_table or len(given.shape) == 1)
    wanted = [by] if isinstance(by, str) else by
    if wanted is None and not is_table:
        wanted = [TARGET]
    found: dict[str, np.ndarray] = {}
    if given is not None and is_table:
        names = list(given.column_names()) if wanted is None else [n for n in wanted if n in given.column_names()]
        if names:
            places = np.array([given.column_names().index(name) for name in names])
            frame = execute(store, capture, given, columns=places)[0].to_frame()
            found = {name: frame.iloc[:, i].to_numpy() for i, name in enumerate(names)}
    for name in wanted or ():
        if name not in found:
            other = capture.intermediates.get(name) if isinstance(name, str) else None
            if other is None or other.n_columns != 1:
                known = ", ".join(given.column_names()[:6]) if given is not None and is_table else TARGET
                raise QueryError(
                    f"by: {name!r} is neither a column of the input nor an intermediate of one column; "
                    f"there are: {known}"
                )
            found[name] = execute(store, capture, other)[0].to_numpy().reshape(other.n_rows)
    return found


def _given_columns(by: Any, n_rows: int) -> dict[str, np.ndarray]:
    if not hasattr(by, "items"):
        raise QueryError(f"by: expected names, or a frame or mapping of columns, got {type(by).__name__}")
    columns = {str(name): np.asarray(values) for name, values in by.items()}
    for name, values in columns.items():
        if values.shape != (n_rows,):
            raise QueryError(
                f"by: column {name!r} has shape {values.shape}; expected a value for each of {n_rows} rows"
            )
    if not columns:
        raise QueryError("by: expected at least one column")
    return columns
