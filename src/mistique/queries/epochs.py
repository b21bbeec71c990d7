"""When in training a layer settled: how alike each epoch's output is to that of the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.plan import Plan
from mistique.queries.answer import Plotted
from mistique.queries.arguments import check_number
from mistique.queries.directions import check_room, directions_of_rows
from mistique.queries.hsic import gram_of
from mistique.queries.patterns import find_all
from mistique.queries.plans import joined_plan
from mistique.queries.portions import Portions, is_number
from mistique.queries.progress import tracked
from mistique.queries.selection import labels_of
from mistique.schema import Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_SHOWN = 7
# That the directions of SVCCA hold.
_VARIANCE = 0.99


@dataclass(frozen=True, eq=False, repr=False)
class Epochs(Plotted):
    """How alike each epoch of each layer is to the last. Made by `epochs`.

    ``values`` has shape (n_layers, n_epochs): 1 where a layer gives what it gives at the end, up to rotation and scale;
    NaN where an epoch does not have the layer, or its output is constant. ``rows`` are the layers, ``columns`` the
    versions. ``max_abs_error`` is infinite where values are quantized: what their errors make of a similarity is not
    bounded.

    Parameters
    ----------
    settled : tuple of str or None
        For each layer the first version from which on all are at least as alike as `threshold`. None: only the last is.
    threshold : float
    n_rows : int
        Rows that were compared.
    measure : str
    """

    _dims: ClassVar[tuple[str, ...]] = ("layer", "epoch")

    settled: tuple[str | None, ...]
    threshold: float
    n_rows: int
    measure: str

    def _title(self) -> str:
        return f"Similarity ({self.measure.upper()}) of each epoch to {self.columns[-1]}, {self.key}"

    def _shown(self) -> list[int]:
        """Epochs that fit a line: the first and the last, and some between."""
        n = len(self.columns)
        return [int(i) for i in np.unique(np.linspace(0, n - 1, min(_SHOWN, n)).astype(int))]

    def _head(self) -> list[str]:
        return ["layer", *(self.columns[i] for i in self._shown()), "settled"]

    def _body(self) -> list[list[str]]:
        shown = self._shown()
        return [
            [str(layer), *("-" if np.isnan(row[i]) else f"{row[i]:.3f}" for i in shown), settled or "at the end"]
            for layer, row, settled in zip(self.rows, self.values, self.settled, strict=True)
        ]

    def _more(self) -> list[str]:
        settled = f"settled: the first epoch from which on the similarity is at least {self.threshold:g}"
        return [f"over {self.n_rows:,} rows; {settled}", *super()._more()[-1:]]


def epochs(
    store: Store,
    key: str | Key,
    *,
    n_rows: int = 1_000,
    threshold: float = 0.95,
    measure: str = "cka",
    exact: bool = False,
) -> Epochs:
    """When each layer settled in training: the similarity of its output at each epoch to that at the last.

    Parameters
    ----------
    store : Store
    key : str or Key
        A run over a dataset, ``fashion/cnn@1/valid``: all layers; or some, ``fashion/cnn@1/valid/conv*``.
    n_rows : int, default 1,000
        Rows to compare, evenly spaced over the dataset, at least 4.
    threshold : float, default 0.95
        A layer has settled at the first epoch from which on it is at least as alike to the last.
    measure : {"cka", "svcca"}, default "cka"
        What alike means: the kernels agree, or the mean correlation of the directions that hold 99% of the variance,
        which weighs all of these directions alike. The second needs more rows than an epoch and the last have
        directions together.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Epochs

    Raises
    ------
    QueryError
        Fewer than two epochs, several datasets or models, too few rows, or a measure that there is not.
    IntermediateNotFoundError

    Notes
    -----
    Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414) by the unbiased estimator of HSIC (Song
    et al. 2012, as Nguyen et al. 2021, arXiv 2010.15327), so that few rows and many columns do not look alike by
    themselves; it does not change when units are permuted, rotated, or scaled together. Networks tend to settle from
    the bottom up: Raghu et al. 2017, arXiv 1706.05806, whose SVCCA is the other measure. Held against plain loops by
    ``tests/queries/test_epochs.py``.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> x = np.random.default_rng(0).normal(size=(2, 50, 4)).astype("float32")
    >>> for epoch, noise in enumerate((2.0, 0.1, 0.0), 1):
    ...     with store.capture(model="lab/net", dataset="valid", framework="none", run_id="a", epoch=epoch) as capture:
    ...         capture.append("dense", x[0] + noise * x[1])
    >>> answer = mistique.epochs(store, "lab/net@1/valid")
    >>> answer.columns, answer.settled
    (('1.1', '1.2', '1.3'), ('1.2',))
    """
    if isinstance(n_rows, bool) or not isinstance(n_rows, (int, np.integer)) or n_rows < 4:
        raise QueryError(f"n_rows: expected a number of rows, at least 4, got {n_rows!r}")
    check_number("threshold", threshold, over=0.0, up_to=1.0)
    if measure not in _MEASURES:
        raise QueryError(f"measure: expected one of {', '.join(_MEASURES)}, got {measure!r}")
    products_of, alignment = _MEASURES[measure]
    by_version, layers = _epochs_of(store, key)
    captures = [capture for capture, _ in by_version.values()]
    total = _common_rows(store, captures)
    if total < 4:
        raise QueryError(f"{captures[-1].prefix} has {total} rows; epochs are compared over 4 or more")
    rows = np.unique(np.linspace(0, total - 1, min(n_rows, total)).astype(np.int64))
    values = np.full((len(layers), len(by_version)), np.nan)
    plans: list[Plan] = []
    for i, layer in enumerate(tracked(layers, "comparing epochs", total=len(layers))):
        last: np.ndarray | None = None
        # Backwards: each is held against the last.
        for j, (capture, nodes) in reversed(list(enumerate(by_version.values()))):
            if layer in nodes:
                numbers, plan = _numbers(store, capture, nodes[layer], rows, exact)
                plans.append(plan)
                found = products_of(numbers)
                last = found if last is None else last
                values[i, j] = alignment(found, last)
    versions = tuple(by_version)
    return Epochs(
        captures[-1].prefix,
        values,
        np.array(layers, object),
        versions,
        float("inf") if any(plan.max_abs_error for plan in plans) else 0.0,
        joined_plan(plans),
        tuple(_settled(row, versions, threshold) for row in values),
        threshold,
        len(rows),
        measure,
        _store=store,
    )


def _epochs_of(store: Store, key: str | Key) -> tuple[dict[str, tuple[Capture, dict[str, Intermediate]]], list[str]]:
    """The captures of a run by version, with what of them was asked, and the layers of the last in its order."""
    by_version: dict[str, tuple[Capture, dict[str, Intermediate]]] = {}
    for capture, node in find_all(store, key):
        held, nodes = by_version.setdefault(capture.number, (capture, {}))
        if (held.version.model, held.dataset) != (capture.version.model, capture.dataset):
            raise QueryError(f"{key} names {held.prefix} and {capture.prefix}: ask of one model over one dataset")
        if node.role in ("stage", "prediction") and all(map(is_number, node.types)):
            nodes[node.name] = node
    if len(by_version) < 2:
        raise QueryError(
            f"{key} has one epoch, {', '.join(by_version)}: capture several with MistiqueCallback, and name the run"
        )
    layers = list(list(by_version.values())[-1][1])
    if not layers:
        raise QueryError(f"{key} names no layer of numbers")
    return by_version, layers


def _common_rows(store: Store, captures: list[Capture]) -> int:
    """How many rows all epochs have; they have to be the same."""
    counts = [next(iter(capture.intermediates.values())).n_rows for capture in captures]
    labels = [labels_of(store, capture, n, None) for capture, n in zip(captures, counts, strict=True)]
    for capture, n, found in zip(captures, counts, labels, strict=True):
        if n != counts[-1] or not (found == labels[-1]).all():
            raise QueryError(f"{capture.prefix} and {captures[-1].prefix} were captured over other rows")
    return counts[-1]


def _numbers(
    store: Store, capture: Capture, node: Intermediate, rows: np.ndarray, exact: bool
) -> tuple[np.ndarray, Plan]:
    """Some rows of a layer, of shape (n_rows, n_columns)."""
    portions = Portions(store, capture, node, rows=rows, exact=exact)
    numbers = np.concatenate([part.reshape(len(part), -1) for _, part in portions])
    if not np.isfinite(numbers).all():
        raise QueryError(f"{capture.prefix}/{node.name} holds values that are not finite: name other layers")
    return numbers, portions.plan()


def _alignment(first: np.ndarray, second: np.ndarray) -> float:
    """CKA of two layers from their centred products: their cosine. NaN: one of them is constant."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum() / lengths) if lengths else np.nan


def _directions(numbers: np.ndarray) -> np.ndarray:
    """The directions that hold 99% of the variance, (n_rows, n_directions); none: the layer is constant."""
    centred = numbers - numbers.mean(axis=0, dtype=np.float64)
    if not centred.any():
        return np.empty((len(numbers), 0))
    return directions_of_rows(centred @ centred.T, _VARIANCE, "a layer")


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The mean correlation of two spaces of directions. NaN: one of them is empty."""
    n_directions = first.shape[1], second.shape[1]
    if not all(n_directions):
        return np.nan
    instead = 'take more of them by n_rows=, name layers with fewer columns, or ask with measure="cka"'
    check_room(n_directions, len(first), instead=instead)
    return float(np.linalg.svd(first.T @ second, compute_uv=False).clip(0, 1).mean())


# What is made of the rows of a layer, and how two such are compared.
_MEASURES = {"cka": (gram_of, _alignment), "svcca": (_directions, _correlation)}


def _settled(row: np.ndarray, versions: tuple[str, ...], threshold: float) -> str | None:
    below = np.flatnonzero(~(row >= threshold))
    first = int(below[-1]) + 1 if len(below) else 0
    return versions[first] if first < len(versions) - 1 else None
