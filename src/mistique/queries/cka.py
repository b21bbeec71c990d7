"""CKA: how alike layers are, as a matrix of layers by layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import QueryError
from mistique.planner.plan import Plan, format_bound, format_seconds
from mistique.queries.answer import Plotted
from mistique.queries.hsic import FEWEST_ROWS, hsic_between
from mistique.queries.similarity import Named, key_of, named, portions_of
from mistique.schema import Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class Cka(Plotted):
    """Similarities of layers. Made by `cka`.

    ``values`` has shape (n_layers, n_other_layers): 1 for a layer and itself, about 0 for layers that have nothing in
    common, and below 0 by chance. ``rows`` are the names of the layers, ``columns`` those of the others.
    ``max_abs_error`` is infinite where values are quantized: what their errors make of a similarity is not bounded.

    Parameters
    ----------
    others : tuple of str
        Keys of the layers of the columns.
    keys : tuple of str
        Keys of the layers of the rows.
    hsic : ndarray of shape (n_layers, n_other_layers), float64
        The estimates that the similarities are ratios of.
    n_rows : int
        Rows that all layers have in common.
    batch_rows : int
    plans : tuple of Plan
        The road taken for each layer.
    constant : tuple of str
        Layers that are the same in every row, alike to none: their similarities are 0.
    """

    others: tuple[str, ...]
    keys: tuple[str, ...]
    hsic: np.ndarray
    n_rows: int
    batch_rows: int
    plans: tuple[Plan, ...]
    constant: tuple[str, ...]

    @property
    def similarity(self) -> float:
        """Of two layers, their similarity.

        Raises
        ------
        QueryError
            There are more than two.
        """
        if self.values.size != 1:
            raise QueryError(f"similarity: expected an answer of two layers, this one has {self.values.shape}")
        return float(self.values[0, 0])

    def _title(self) -> str:
        if self.values.size == 1:
            return f"CKA of {self.keys[0]} and {self.others[0]}"
        return f"CKA of {len(self.rows)} x {len(self.columns)} layers, {self.key} and others"

    def _head(self) -> list[str]:
        return ["layer", *super()._head()[1:]]

    def _more(self) -> list[str]:
        notes = [f"the same in every row, so alike to none: {', '.join(self.constant)}"] if self.constant else []
        shown = super()._more()[:-1]
        seconds = sum(plan.seconds or 0.0 for plan in self.plans)
        taken = f"{len(self.plans)} layers taken in {format_seconds(seconds)}"
        return [*notes, *shown, f"{self.n_rows:,} rows; {format_bound(self.max_abs_error)}; {taken}"]


def cka(
    store: Store,
    key: str | Key | list[str | Key],
    *,
    other: str | Key | list[str | Key] | None = None,
    batch_rows: int = 256,
    exact: bool = False,
) -> Cka:
    """How alike layers are: linear centred kernel alignment, without the bias of small batches.

    Parameters
    ----------
    store : Store
    key : str, Key or list of them
        A layer, several, or a whole dataset, ``project/model@version/dataset``, which stands for all of its stages and
        layers that hold numbers.
    other : str, Key or list of them, optional
        The layers to compare with. Default: each with each of `key`.
    batch_rows : int, default 256
        Rows of which similarities are estimated at once, at least 4; the estimates are averaged. Its size changes the
        cost and the variance, not the expectation.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Cka

    Raises
    ------
    QueryError
        Fewer than 4 rows in common, or a layer with nulls, NaN or infinities.

    Notes
    -----
    Kornblith et al. 2019, arXiv 1905.00414, by the unbiased estimator HSIC_1 of Song et al. 2012 over minibatches, as
    Nguyen, Raghu and Kornblith 2021, arXiv 2010.15327, take it: the sum over batches of HSIC_1 of two layers, over the
    root of the product of those of each with itself. Batches are consecutive rows, weighted by their number; a short
    last one joins the one before. HSIC_1 of a layer and itself is a sum of squares, so no root is of a negative number;
    between unlike layers it may be negative, and is reported so. Rows are matched by label. Products of float32 are
    taken in float32, of columns less their means where those would drown what rows differ in, and centred and summed in
    float64. While it runs BLAS takes one thread for each product in this
    process, where threadpoolctl is installed, and as many products are taken at once as there are cores. Held by
    ``tests/queries/test_cka.py``; measured by ``bench/queries.py``.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("pca", PCA(2)), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> _ = pipe.fit(x, x[:, 0])
    >>> answer = mistique.cka(store, "demo/ridge@1/train")
    >>> answer.rows.tolist()
    ['input', 'pca', 'prediction']
    >>> answer.values.diagonal().round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    if isinstance(batch_rows, bool) or not isinstance(batch_rows, (int, np.integer)) or batch_rows < FEWEST_ROWS:
        raise QueryError(f"batch_rows: expected at least {FEWEST_ROWS}, got {batch_rows!r}")
    left = named(store, key)
    right = left if other is None else named(store, other)
    keys, others = ([key_of(*layer) for layer in side] for side in (left, right))
    distinct: dict[str, Named] = dict(zip([*keys, *others], [*left, *right], strict=True))
    layers = portions_of(store, list(distinct.values()), exact=exact, by_column=True)
    n_rows = layers[0].n_rows
    if n_rows < FEWEST_ROWS:
        raise QueryError(f"expected at least {FEWEST_ROWS} rows in common, got {n_rows}")
    hsic = hsic_between(layers, list(distinct), n_rows, int(batch_rows))
    place = {name: i for i, name in enumerate(distinct)}
    root = np.sqrt(hsic.diagonal())
    scale = np.outer(root, root)
    similarity = np.divide(hsic, scale, out=np.zeros_like(hsic), where=scale > 0)
    np.fill_diagonal(similarity, (root > 0).astype(float))  # what a root rounds off would show
    which = np.ix_([place[name] for name in keys], [place[name] for name in others])
    is_exact = not any(portions.max_abs_error for portions in layers)
    names, other_names = _short(left, right)
    plans = tuple(portions.plan() for portions in layers)
    return Cka(
        keys[0],
        similarity[which],
        np.array(names, object),
        tuple(other_names),
        0.0 if is_exact else float("inf"),
        plans[0],
        tuple(others),
        tuple(keys),
        hsic[which],
        n_rows,
        int(batch_rows),
        plans,
        tuple(name for name, size in zip(distinct, root, strict=True) if not size),
        _store=store,
    )


def _short(left: list[Named], right: list[Named]) -> tuple[list[str], list[str]]:
    """Names of layers, with as much of their keys as tells them apart."""
    is_one = len({capture.prefix for capture, _ in [*left, *right]}) == 1
    is_one_dataset = len({capture.dataset for capture, _ in [*left, *right]}) == 1

    def name(capture: Capture, node: Intermediate) -> str:
        if is_one:
            return str(node.name)
        model = f"{capture.version.model.rpartition('/')[2]}@{capture.number}"
        return f"{model}/{node.name}" if is_one_dataset else f"{model}/{capture.dataset}/{node.name}"

    return [name(*layer) for layer in left], [name(*layer) for layer in right]
