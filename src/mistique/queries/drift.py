"""How far the same intermediate over two datasets, or of two versions, lies apart; and at which stage they part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import execute
from mistique.planner.plan import Plan
from mistique.queries.answer import Plotted, format_value
from mistique.queries.arguments import check_number
from mistique.queries.patterns import find_dataset, is_dataset
from mistique.queries.plans import joined_plan
from mistique.queries.portions import Portions
from mistique.queries.progress import tracked
from mistique.queries.selection import find_each, select_columns
from mistique.queries.significance import adjusted
from mistique.queries.two_samples import distance
from mistique.schema import ROW_LABEL, TARGET, Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_PICTURED, _SHOWN = 4, 12


@dataclass(frozen=True, eq=False, repr=False)
class Drift(Plotted):
    """Two samples of each column compared, the most different first in each stage. Made by `drift`.

    ``rows`` are the columns, ``stage/column`` where there are several stages. Columns: Kolmogorov-Smirnov distance, 0
    to 1; population stability index; difference of the means in standard deviations of the first; p, corrected. Texts
    have no order: their first and third are NaN. ``max_abs_error`` is infinite where values are quantized: none of the
    four is bounded then, but `is_drifted` holds whatever the errors of the values are.

    Parameters
    ----------
    other : str
        The second key.
    stages, names : ndarray of shape (n_columns,), str
        The stage of each row of the table, and its column.
    is_drifted : ndarray of shape (n_columns,), bool
        By more than chance, and by a size that matters.
    parted_at : str, optional
        The first stage, in the order of the model, with a column that drifted. None: there is none.
    threshold : float
        Of both distances, for a size that matters.
    n_rows : tuple of int
        Of the two.
    """

    _dims: ClassVar[tuple[str, ...]] = ("column", "figure")

    other: str
    stages: np.ndarray
    names: np.ndarray
    is_drifted: np.ndarray
    parted_at: str | None
    threshold: float
    n_rows: tuple[int, int]
    notes: tuple[str, ...] = ()
    _samples: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, kw_only=True)

    @property
    def stage_names(self) -> list[str]:
        """The stages, in the order of the model."""
        return list(dict.fromkeys(self.stages.tolist()))

    def worst(self, stage: str) -> int:
        """The number of the row of the column of a stage that lies farthest apart."""
        return int(np.flatnonzero(self.stages == stage)[0])

    def _title(self) -> str:
        return f"Drift from {self.key} to {self.other}"

    def _head(self) -> list[str]:
        if len(self.stage_names) == 1:
            return ["column", *self.columns, ""]
        return ["stage", "columns", "drifted", "worst", *self.columns[:3]]

    def _body(self) -> list[list[str]]:
        if len(self.stage_names) == 1:
            marks = np.where(self.is_drifted, "drifted", "")
            shown = zip(self.names[:_SHOWN], self.values[:_SHOWN], marks, strict=False)
            return [[str(name), *map(_short, row), str(mark)] for name, row, mark in shown]
        lines = []
        for stage in self.stage_names:
            of_stage, worst = self.stages == stage, self.worst(stage)
            counts = [f"{of_stage.sum():,}", f"{self.is_drifted[of_stage].sum():,}"]
            lines.append([stage, *counts, format_value(self.names[worst]), *map(_short, self.values[worst, :3])])
        return lines

    def _more(self) -> list[str]:
        rows = f"{self.n_rows[0]:,} against {self.n_rows[1]:,} rows"
        which = "" if len(self.stage_names) == 1 or self.parted_at is None else f"; they part at {self.parted_at}"
        drifted = f"{self.is_drifted.sum():,} of {len(self):,} columns drifted (ks or psi from {self.threshold:g} on"
        return [f"{rows}; {drifted}, p below 0.05){which}", *self.notes, *super()._more()[-1:]]


def drift(
    store: Store,
    key: str | Key,
    *,
    other: str | Key,
    columns: Any = None,
    unit: Any = None,
    threshold: float = 0.1,
    bins: int = 10,
    exact: bool = False,
) -> Drift:
    """How far each column of one intermediate, or of all stages, lies from the same column elsewhere.

    Parameters
    ----------
    store : Store
    key, other : str or Key
        Two intermediates; or two datasets of a version, ``homes/ridge@1/train`` and ``homes/ridge@1/valid``, or of two:
        then every stage that both have is compared, and the target; not what pools, flattens or drops out of another.
    columns : str, int or list of them, optional
        Of a table. Default: all.
    unit : int or list of int, optional
        Of a layer. A layer is compared by units: a feature map by the mean of each over its positions, one number a
        row.
    threshold : float, default 0.1
        Columns whose KS or PSI is as large, with a corrected p below 0.05, have drifted.
    bins : int, default 10
        Of the PSI, between quantiles of the first.
    exact : bool, default False
        Never answer with quantized values. They have steps of their own, so of them a column counts as drifted only if
        it would, by KS, whatever the errors are within their bounds.

    Returns
    -------
    Drift

    Raises
    ------
    QueryError
        The two have no column, or no stage, in common.
    IntermediateNotFoundError

    Notes
    -----
    Rows need not be the same, nor as many. Columns are matched by name. p is corrected by Holm's method for all columns
    that were compared. With thousands of rows every column differs by more than chance; the sizes tell. How they are
    computed is in `mistique.queries.two_samples`.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mistique.sklearn import Pipeline, capture
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(x, x[:, 0])
    >>> _ = capture(pipe, x + [0.0, 1.0], x[:, 0], store=store, dataset="serving")
    >>> answer = mistique.drift(store, "demo/ridge@1/train", other="demo/ridge@1/serving")
    >>> answer.parted_at, answer.rows[answer.is_drifted].tolist()
    ('input', ['input/1', 'scale/x1'])
    """
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 2:
        raise QueryError(f"bins: expected a number of bins, at least 2, got {bins!r}")
    check_number("threshold", threshold, over=0.0)
    sides, pairs, notes = _pairs(store, key, other)
    is_whole = is_dataset(key)
    if is_whole and (columns is not None or unit is not None):
        raise QueryError("columns= and unit= are of one intermediate: give two keys of intermediates with them")
    table: list[tuple[float, float, float, float]] = []
    certain: list[tuple[float, float]] = []
    stages, names, plans = [], [], []
    samples: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for first, second in tracked(pairs, "comparing stages", total=len(pairs)):
        left, right = (_samples(s, store, n, columns, unit, exact) for s, n in zip(sides, (first, second), strict=True))
        plans.extend([left[1], right[1]])
        if len(left[0]) == len(right[0]) == 1:  # a prediction, whatever it is called
            right = dict(zip(left[0], right[0].values(), strict=True)), right[1]
        shared = [name for name in left[0] if name in right[0]]
        notes += _unmatched(first, [*left[0]], [*right[0]])
        bounds = left[1].max_abs_error or 0.0, right[1].max_abs_error or 0.0
        found = [distance(left[0][name], right[0][name], bins=bins, bounds=bounds) for name in shared]
        order = np.argsort([-(one.psi if np.isnan(one.ks) else max(one.ks, one.psi)) for one in found], kind="stable")
        for place, i in enumerate(order.tolist()):
            if place < (1 if is_whole else _PICTURED):
                samples[len(table)] = left[0][shared[i]], right[0][shared[i]]
            table.append((found[i].ks, found[i].psi, found[i].shift, found[i].p))
            # Of quantized values the index is not bounded, so it alone shows nothing.
            certain.append((found[i].certain_ks, 0.0 if any(bounds) else found[i].psi))
            stages.append(first.name)
            names.append(shared[i])
    if not table:
        raise QueryError(f"{key} and {other} have no column in common")
    values = np.array(table)
    values[:, 3] = adjusted(values[:, 3])
    is_drifted = (np.nan_to_num(np.array(certain)) >= threshold).any(axis=1) & (values[:, 3] < 0.05)
    n_hidden = int(((np.nan_to_num(values[:, :2]) >= threshold).any(axis=1) & ~is_drifted).sum())
    is_quantized = any(plan.max_abs_error for plan in plans)
    if is_quantized and n_hidden:
        notes.append(f"{n_hidden:,} more may have, or the errors of quantized values look like it: ask with exact=True")
    parting = [stage for stage, found in zip(stages, is_drifted, strict=True) if found and stage != TARGET]
    keys = [
        side.prefix if is_whole else f"{side.prefix}/{node.name}" for side, node in zip(sides, pairs[0], strict=True)
    ]
    return Drift(
        keys[0],
        values,
        np.array([f"{stage}/{name}" if is_whole else name for stage, name in zip(stages, names, strict=True)], object),
        ("ks", "psi", "shift", "p"),
        float("inf") if is_quantized else 0.0,
        joined_plan(plans),
        keys[1],
        np.array(stages, object),
        np.array(names, object),
        is_drifted,
        parting[0] if parting else None,
        threshold,
        (pairs[0][0].n_rows, pairs[0][1].n_rows),
        tuple(notes),
        _store=store,
        _samples=samples,
    )


def _pairs(
    store: Store, key: str | Key, other: str | Key
) -> tuple[tuple[Capture, Capture], list[tuple[Intermediate, Intermediate]], list[str]]:
    """What is compared with what, and what only one of them has."""
    if is_dataset(key) != is_dataset(other):
        raise QueryError(f"expected two intermediates or two datasets, got {key} and {other}")
    if not is_dataset(key):
        (left, first), (right, second) = find_each(store, [key, other])
        return (left, right), [(first, second)], []
    left, right = find_dataset(store, key), find_dataset(store, other)
    both = [name for name in left.intermediates if name in right.intermediates and name != ROW_LABEL]
    # A layer that pools or flattens another shows nothing that the other does not.
    shared = [name for name in both if left.intermediates[name].derivation is None]
    if not shared:
        raise QueryError(f"{left.prefix} and {right.prefix} have no stage in common")
    alone = [name for name in {**left.intermediates, **right.intermediates} if name not in both and name != ROW_LABEL]
    notes = [f"only one of them has {', '.join(alone)}"] if alone else []
    derived = [name for name in both if name not in shared]
    notes += [f"left out, as they follow from the layer before: {', '.join(derived)}"] if derived else []
    # The target is no stage: it comes last.
    shared.sort(key=lambda name: left.intermediates[name].role == "target")
    return (left, right), [(left.intermediates[name], right.intermediates[name]) for name in shared], notes


def _unmatched(node: Intermediate, left: list[str], right: list[str]) -> Iterator[str]:
    alone = [name for name in dict.fromkeys([*left, *right]) if (name in left) != (name in right)]
    if alone:
        listed = ", ".join(alone[:4]) + (f" and {len(alone) - 4} more" if len(alone) > 4 else "")
        yield f"{node.name}: only one of them has {listed}"


def _samples(
    capture: Capture, store: Store, node: Intermediate, columns: Any, unit: Any, exact: bool
) -> tuple[dict[str, np.ndarray], Plan]:
    """The values of each column, or of each unit the mean over its positions, by name."""
    if node.is_table or node.positions == 1:
        wanted = select_columns(node, columns, unit)
        values, plan = execute(store, capture, node, columns=wanted, exact=exact)
        frame = values.to_frame()
        return {name: frame.iloc[:, i].to_numpy() for i, name in enumerate(values.names())}, plan
    if columns is not None:
        raise QueryError(f"{node.name} is compared by units: say which with unit=, not columns=")
    chosen = select_columns(node, None, unit)
    units = np.arange(node.n_units) if chosen is None else chosen[:: node.positions] // node.positions
    portions = Portions(store, capture, node, columns=chosen, exact=exact)
    means = np.concatenate([numbers.mean(axis=1, dtype=np.float64) for _, numbers in portions])
    return {f"unit {i}": means[:, place] for place, i in enumerate(units.tolist())}, portions.plan()


def _short(number: float) -> str:
    return "-" if np.isnan(number) else f"{number:.3g}"
