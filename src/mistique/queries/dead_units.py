"""Units that never fire, or always do: by layer and epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.plan import Plan
from mistique.queries.answer import Plotted
from mistique.queries.arguments import check_number
from mistique.queries.patterns import find_all
from mistique.queries.plans import joined_plan
from mistique.queries.portions import Portions, is_number
from mistique.queries.progress import tracked
from mistique.queries.tallied import tallied
from mistique.schema import Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_SHOWN, _SHOWN_UNITS = 30, 5
# Codecs of which zero comes back as zero, and all else with its sign.
_KEEP_SIGN = ("raw", "power", "kbit")


@dataclass(frozen=True, eq=False, repr=False)
class DeadUnits(Plotted):
    """Units that never or always fire, a row for each layer of each version. Made by `dead_units`.

    Columns: units; how many never fire; how many always do, at every position of every row; the mean share of values
    that fire. ``max_abs_error`` is 0 where quantized values are on the same side of the threshold as what was captured:
    of 0, by the power and the k-bit codec. It is infinite elsewhere: what lies near the threshold may have crossed it.

    Parameters
    ----------
    layers, versions : ndarray of shape (n,), str
        Of each row of the table.
    never, always : tuple of ndarray, int64
        The numbers of these units, for each row of the table.
    firing : tuple of ndarray of shape (n_units,), float64
        The share of each unit's values that fire.
    threshold : float
        A value above it fires.
    """

    _dims: ClassVar[tuple[str, ...]] = ("layer", "figure")

    layers: np.ndarray
    versions: np.ndarray
    never: tuple[np.ndarray, ...]
    always: tuple[np.ndarray, ...]
    firing: tuple[np.ndarray, ...]
    threshold: float

    def _title(self) -> str:
        return f"Dead units of {self.key}"

    def _head(self) -> list[str]:
        return ["layer", "version", *self.columns, "which never fire"]

    def _body(self) -> list[list[str]]:
        lines = []
        for i, (n, never, always, share) in enumerate(self.values[:_SHOWN].tolist()):
            counts = [f"{n:,.0f}", f"{never:,.0f}", f"{always:,.0f}", f"{share:.0%}"]
            lines.append([str(self.layers[i]), str(self.versions[i]), *counts, _listed(self.never[i])])
        return lines

    def _more(self) -> list[str]:
        more = [f"... {len(self)} rows in all"] if len(self) > _SHOWN else []
        fires = f"a value above {self.threshold:g} fires; never: on no row, always: at every position of every row"
        return [*more, fires, *super()._more()[-1:]]


def dead_units(store: Store, key: str | Key, *, threshold: float = 0.0, exact: bool = False) -> DeadUnits:
    """The units that never fire, and those that always do, of every layer and epoch that a key names.

    Parameters
    ----------
    store : Store
    key : str or Key
        ``*`` and ``?`` stand for any characters: ``fashion/cnn@1/valid/conv*``. What is left out at the end stands for
        everything: ``fashion/cnn@1`` is every layer over every dataset. A run number, or ``latest``, is all of its
        epochs, ``1.3`` one of them.
    threshold : float, default 0.0
        A value above it fires: 0 fits ReLU and its relatives. For a sigmoid or tanh give its ends, for example 0.01.
    exact : bool, default False
        Never answer with quantized values. The power and k-bit codecs keep zero and sign, so at threshold 0 they say
        the same.

    Returns
    -------
    DeadUnits

    Raises
    ------
    QueryError
        Nothing that the key names has units of numbers, or a threshold that is no number.
    IntermediateNotFoundError

    Notes
    -----
    Dead means dead on these rows: another dataset may wake a unit. NaN does not fire. Layers are read some row blocks
    at a time, each once; where that pays, the counts are kept, and answer when the same is asked again. Inputs,
    predictions and targets are left out unless the key names them.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.array([[1.0, 7.0], [2.0, 7.0]]), np.arange(2.0))  # the second column is constant
    >>> answer = mistique.dead_units(store, "demo/ridge@1/train/scale")
    >>> answer.never[0], answer.values.tolist()
    (array([1]), [[2.0, 1.0, 0.0, 0.25]])
    """
    check_number("threshold", threshold)
    found = find_all(store, key)
    if len({node.name for _, node in found}) > 1:
        found = [(capture, node) for capture, node in found if node.role == "stage"]
    found = [(capture, node) for capture, node in found if all(map(is_number, node.types))]
    if not found:
        raise QueryError(f"{key} names no layer, or stage, of numbers")
    plans: list[Plan] = []
    shares, is_certain = [], True
    for capture, node in tracked(found, "looking for dead units", total=len(found)):
        share, plan = _firing(store, capture, node, threshold, exact)
        shares.append(share)
        plans.append(plan)
        is_certain &= not plan.max_abs_error or (threshold == 0 and _keeps_sign(capture, node))
    never = tuple(np.flatnonzero(share == 0) for share in shares)
    always = tuple(np.flatnonzero(share == 1) for share in shares)
    figures = zip(shares, never, always, strict=True)
    several = len({capture.dataset for capture, _ in found}) > 1
    versions = [f"{c.number}{f'/{c.dataset}' if several else ''}" for c, _ in found]
    return DeadUnits(
        str(key),
        np.array([(len(share), len(none), len(every), share.mean()) for share, none, every in figures]),
        np.array([f"{capture.prefix}/{node.name}" for capture, node in found], object),
        ("units", "never", "always", "firing"),
        0.0 if is_certain else float("inf"),
        joined_plan(plans),
        np.array([node.name for _, node in found], object),
        np.array(versions, object),
        never,
        always,
        tuple(shares),
        threshold,
        _store=store,
    )


def _firing(
    store: Store, capture: Capture, node: Intermediate, threshold: float, exact: bool
) -> tuple[np.ndarray, Plan]:
    """The share of each unit's values that are above the threshold."""

    def count(portions: Portions) -> np.ndarray:
        counts = np.zeros(node.n_units, np.int64)
        for _, numbers in portions:
            counts += np.count_nonzero(numbers.reshape(-1, node.n_units) > threshold, axis=0)
        return counts[None].astype(np.float64)

    what = f"values above {float(threshold)!r}"
    found = tallied(store, capture, node, what=what, shape=(1, node.n_units), count=count, exact=exact)
    return found.figures[0] / max(node.n_rows * node.positions, 1), found.plan


def _keeps_sign(capture: Capture, node: Intermediate) -> bool:
    """Whether what is stored is zero, or negative, where the values are."""
    if node.derivation is None:
        return node.codec["name"] in _KEEP_SIGN
    # The largest of some values has the sign of theirs; their mean may have lost it.
    parents = [capture.intermediates[name] for name in node.parents or ()]
    return node.derivation["op"] != "average_pool" and all(_keeps_sign(capture, parent) for parent in parents)


def _listed(units: np.ndarray) -> str:
    more = f" and {len(units) - _SHOWN_UNITS:,} more" if len(units) > _SHOWN_UNITS else ""
    return ", ".join(map(str, units[:_SHOWN_UNITS].tolist())) + more
