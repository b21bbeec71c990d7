"""CKA: how alike layers are, as a matrix of layers by layers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mistique.codecs.threads import scratch
from mistique.errors import QueryError
from mistique.kernels import centring
from mistique.planner.plan import Plan, format_bound, format_seconds
from mistique.queries.answer import Plotted
from mistique.queries.blas_threads import one_thread_each
from mistique.queries.portions import CELLS_AT_ONCE, Portions
from mistique.queries.similarity import Named, check_finite, key_of, named, portions_of
from mistique.schema import ROW_BLOCK_ROWS, Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_FEWEST_ROWS = 4  # of which HSIC_1 is defined
_NEAR = 4.0


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
    if isinstance(batch_rows, bool) or not isinstance(batch_rows, (int, np.integer)) or batch_rows < _FEWEST_ROWS:
        raise QueryError(f"batch_rows: expected at least {_FEWEST_ROWS}, got {batch_rows!r}")
    left = named(store, key)
    right = left if other is None else named(store, other)
    keys, others = ([key_of(*layer) for layer in side] for side in (left, right))
    distinct: dict[str, Named] = dict(zip([*keys, *others], [*left, *right], strict=True))
    layers = portions_of(store, list(distinct.values()), exact=exact, by_column=True)
    n_rows = layers[0].n_rows
    if n_rows < _FEWEST_ROWS:
        raise QueryError(f"expected at least {_FEWEST_ROWS} rows in common, got {n_rows}")
    hsic = _hsic(layers, list(distinct), n_rows, int(batch_rows))
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


def _hsic(layers: list[Portions], keys: list[str], n_rows: int, batch_rows: int) -> np.ndarray:
    """The mean over batches of HSIC_1 between all layers, weighted by their rows.

    The products of one layer are taken on threads of their own, while the next one is read.
    """
    total, far, room = np.zeros((len(layers), len(layers))), set[int](), np.empty(0)
    with one_thread_each() as n_threads, ThreadPoolExecutor(n_threads, "mistique-products") as workers:
        multiplied: list[Future[np.ndarray | float]] = []
        for bounds in _portions_of_batches(layers, n_rows, batch_rows):
            sizes = np.diff(bounds)
            ends = np.cumsum(len(layers) * sizes**2)
            if room.size < ends[-1]:  # of all portions: pages that were never touched take longer than the products
                room = np.empty(ends[-1])
            centred = [
                part.reshape(-1, n, n)
                for part, n in zip(np.split(room[: ends[-1]], ends[:-1]), sizes.tolist(), strict=True)
            ]
            firsts = (bounds[:-1] - bounds[0]).tolist()
            for i, (portions, key) in enumerate(zip(layers, keys, strict=True)):
                numbers = portions.take(int(bounds[0]), int(bounds[-1]))
                # Those of the layer before: no more than two wait in memory, and the last finds all others done.
                total += sum(future.result() for future in multiplied)
                multiplied = [
                    workers.submit(_multiply, numbers, first, batch, i, far, key)
                    for batch, first in zip(centred, firsts, strict=True)
                ]
        total += sum(future.result() for future in multiplied)
    return total / n_rows


def _multiply(
    numbers: np.ndarray, first: int, centred: np.ndarray, layer: int, far: set[int], key: str
) -> np.ndarray | float:
    """The products of one layer into those of all; of the last, HSIC_1 between all times the number of rows.

    `far` takes the layers whose values lie too far from zero to be multiplied as they are.
    """
    n_layers, n, _ = centred.shape
    if layer in far or not plain_gram(numbers, first=first, out=centred[layer]):
        far.add(layer)
        if not centred_gram(numbers, first=first, out=centred[layer]):
            check_finite(numbers[first : first + n], key)
    if layer < n_layers - 1:
        return 0.0
    flat = centred.reshape(n_layers, -1)
    between: np.ndarray = (flat @ flat.T) / (n - 3)
    return between


def _portions_of_batches(layers: list[Portions], n_rows: int, batch_rows: int) -> Iterator[np.ndarray]:
    """Bounds of batches, some at a time: as many as the widest layer holds in a portion."""
    bounds = np.append(np.arange(0, n_rows, batch_rows), n_rows)
    if len(bounds) > 2 and n_rows - bounds[-2] < max(batch_rows / 2, _FEWEST_ROWS):
        bounds = np.delete(bounds, -2)
    widest = max(portions.n_columns for portions in layers)
    # Gram matrices of all layers wait for one another too.
    cells = max(widest, 2 * len(layers) * batch_rows) * batch_rows
    at_once = max(CELLS_AT_ONCE // cells, 1)
    whole_blocks = ROW_BLOCK_ROWS // batch_rows
    if whole_blocks > 1 and whole_blocks * widest * batch_rows <= 2 * CELLS_AT_ONCE:
        # What ends within row blocks decodes them twice.
        at_once = max(at_once // whole_blocks, 1) * whole_blocks
    for first in range(0, len(bounds) - 1, at_once):
        yield bounds[first : first + at_once + 1]


def centred_gram(numbers: np.ndarray, *, out: np.ndarray, first: int = 0) -> bool:
    """The products of some rows, U-centred: zero on the diagonal and in the sum of every row.

    Their inner products over n (n - 3) are HSIC_1. Columns are centred first, which changes nothing but the rounding:
    the products of rows far from zero would drown what they differ in.

    Parameters
    ----------
    numbers : ndarray of shape (at least first + n_rows, ...), float32 or float64
        Multiplied in their own type. Those of a row lie together, or those of a column: either is taken as it is.
    out : ndarray of shape (n_rows, n_rows), float64
    first : int, default 0
        Of the rows.

    Returns
    -------
    bool
        Whether the means of all columns are finite, as they are where all values are.
    """
    n, n_columns = len(out), prod(numbers.shape[1:])
    means, room = np.empty(n_columns), scratch(f"centred {numbers.dtype}", n * n_columns, numbers.dtype)
    if numbers.T.flags.c_contiguous:
        lines = room.reshape(n_columns, n)
        centring.centre_lines(numbers.T.reshape(n_columns, -1), first, means, lines)
        rows = lines.T
    else:
        rows = room.reshape(n, n_columns)
        some = np.ascontiguousarray(numbers[first : first + n].reshape(n, n_columns))
        centring.centre_columns(some, means, rows)
    _products(rows, out)
    return bool(np.isfinite(means).all())


def plain_gram(numbers: np.ndarray, *, out: np.ndarray, first: int = 0) -> bool:
    """The same of columns as they are, in half the time; False: they lie too far from zero for that, or are not finite.

    What a product of float32 leaves off is a part of itself. So it is as good as that of centred columns, but for a
    factor of `_NEAR`, where of the squares of all values no more than that part is due to the means of columns.
    """
    n, n_columns = len(out), prod(numbers.shape[1:])
    if numbers.T.flags.c_contiguous:
        rows = numbers.T.reshape(n_columns, -1)[:, first : first + n].T
    else:
        rows = numbers[first : first + n].reshape(n, n_columns)
    return _products(rows, out) * _NEAR >= 1


def _products(rows: np.ndarray, out: np.ndarray) -> float:
    """The products of rows, U-centred, and which part of their squares is left without the means of columns."""
    n = len(rows)
    products = scratch(f"products {rows.dtype}", n * n, rows.dtype).reshape(n, n)
    with np.errstate(invalid="ignore", over="ignore"):
        np.matmul(rows, rows.T, out=products)
    return float(centring.centre_products(products, np.empty(n), out))


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
