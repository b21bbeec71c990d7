"""HSIC_1 between layers: products of their rows, U-centred, and what those of two layers have in common."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from functools import partial
from math import prod

import numpy as np

from mistique.codecs.threads import scratch
from mistique.kernels import centring
from mistique.queries.blas_threads import one_thread_each
from mistique.queries.portions import CELLS_AT_ONCE, Portions
from mistique.queries.similarity import check_finite
from mistique.schema import ROW_BLOCK_ROWS

FEWEST_ROWS = 4  # of which it is defined
_NEAR = 4.0
# So many are one task: threads that take the GIL for each wait for one another.
_BATCHES_OF_TASK = 4


def hsic_between(layers: list[Portions], keys: list[str], n_rows: int, batch_rows: int) -> np.ndarray:
    """The mean over batches of HSIC_1 between all layers, weighted by their rows.

    The products of one layer are taken on the threads that decode, while the next ones are read: three portions lie in
    memory, the one that is multiplied, the one that waits for it, and the one that is read.
    """
    total, room = np.zeros((len(layers), len(layers))), np.empty(0)
    all_bounds = list(_portions_of_batches(layers, n_rows, batch_rows))
    is_plain: dict[int, bool] = {}
    with one_thread_each(), closing(_taken_ahead(layers, all_bounds)) as taken:
        multiplied: list[Future[np.ndarray]] = []
        for bounds in all_bounds:
            sizes = np.diff(bounds)
            ends = np.cumsum(len(layers) * sizes**2)
            if room.size < ends[-1]:  # of all portions: pages that were never touched take longer than the products
                room = np.empty(ends[-1])
            centred = [
                part.reshape(-1, n, n)
                for part, n in zip(np.split(room[: ends[-1]], ends[:-1]), sizes.tolist(), strict=True)
            ]
            for i, key in enumerate(keys):
                multiply = partial(_multiply, next(taken), layer=i, key=key, is_plain=is_plain)
                total[i - 1] += sum(future.result() for future in multiplied)
                batches = list(zip(centred, (bounds[:-1] - bounds[0]).tolist(), strict=True))
                if i not in is_plain:  # by the first batch: an answer is the same whichever thread is first
                    total[i] += multiply(batches[:1])
                    batches = batches[1:]
                multiplied = layers[i].spread(multiply, batches, size=_BATCHES_OF_TASK)
        total[-1] += sum(future.result() for future in multiplied)
    return (total + np.tril(total, -1).T) / n_rows


def _taken_ahead(layers: list[Portions], all_bounds: list[np.ndarray]) -> Generator[np.ndarray]:
    """Rows between bounds, layer by layer, each read while the one before is worked on."""
    context = copy_context()  # what is said of this question holds on the other thread too
    with ThreadPoolExecutor(1, "mistique-portions") as reader:
        ahead: list[Future[np.ndarray]] = []
        for bounds in all_bounds:
            if bounds is all_bounds[-1]:
                for portions in layers:
                    reader.submit(context.run, portions.plan)  # asked for in the end; it takes as long as a product
            for portions in layers:
                ahead.append(reader.submit(context.run, portions.take, int(bounds[0]), int(bounds[-1])))
                if len(ahead) > 1:
                    yield ahead.pop(0).result()
        yield ahead.pop().result()


def _multiply(
    numbers: np.ndarray, batches: list[tuple[np.ndarray, int]], *, layer: int, key: str, is_plain: dict[int, bool]
) -> np.ndarray:
    """The products of one layer in some batches into those of all.

    Returns
    -------
    ndarray of shape (n_layers,)
        The sum of HSIC_1 between it and each layer up to it, times the number of rows; zeros for those behind it.
    """
    total = np.zeros(len(batches[0][0])) if batches else np.zeros(())
    for centred, first in batches:
        out, n = centred[layer], centred.shape[1]
        is_done = is_plain.get(layer, True) and _plain_gram(numbers, first=first, out=out)
        is_plain.setdefault(layer, is_done)
        if not is_done and not centred_gram(numbers, first=first, out=out):
            check_finite(numbers[first : first + n], key)
        total[: layer + 1] += centred[: layer + 1].reshape(layer + 1, -1) @ out.reshape(-1) / (n - 3)
    return total


def _portions_of_batches(layers: list[Portions], n_rows: int, batch_rows: int) -> Iterator[np.ndarray]:
    """Bounds of batches, some at a time: as many as the widest layer holds in a portion."""
    bounds = np.append(np.arange(0, n_rows, batch_rows), n_rows)
    if len(bounds) > 2 and n_rows - bounds[-2] < max(batch_rows / 2, FEWEST_ROWS):
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


def _plain_gram(numbers: np.ndarray, *, out: np.ndarray, first: int = 0) -> bool:
    """The same of columns as they are, in less time; False: they lie too far from zero for that, or are not finite.

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
