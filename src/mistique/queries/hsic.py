"""HSIC_1 between layers: products of their rows, U-centred, and what those of two layers have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from functools import partial
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import TypeVar

import numpy as np

from mistique.codecs.threads import scratch
from mistique.kernels import centring
from mistique.kernels.centring import add_hsic
from mistique.queries.blas_threads import one_thread_each
from mistique.queries.portions import CELLS_AT_ONCE, Portions
from mistique.queries.similarity import check_finite
from mistique.schema import ROW_BLOCK_ROWS

T = TypeVar("T")

FEWEST_ROWS = 4  # of which it is defined
# What a product of float32 leaves off is a part of itself. So it is as good as that of columns less their means, but
# for a factor of 4, where of the squares of all values no more than that part is due to the means.
_LEAST_LEFT = 0.25
# So many are one task, and of few batches one half: threads that take the GIL for each wait for one another.
_BATCHES_OF_TASK = 4
_READ_AT_ONCE = 2


def hsic_between(layers: list[Portions], keys: list[str], n_rows: int, batch_rows: int) -> np.ndarray:
    """The mean over batches of HSIC_1 between all layers, weighted by their rows.

    The products of one layer are taken on the threads that decode, while the next ones are read: three portions lie in
    memory, the one that is multiplied, the one that waits for it, and the one that is read.
    """
    total, room = np.zeros((len(layers), len(layers))), np.empty(0)
    all_bounds = list(_portions_of_batches(layers, n_rows, batch_rows))
    # By whole portions, so that an answer is the same whichever thread is first.
    is_near = [True] * len(layers)
    multiplied: list[Future[tuple[np.ndarray, bool]]] = []

    def collect(layer: int) -> None:
        for found, are_near in (future.result() for future in multiplied):
            total[layer] += found
            is_near[layer] &= are_near

    with one_thread_each(), closing(_taken_ahead(layers, all_bounds)) as taken:
        for bounds in all_bounds:
            sizes = np.diff(bounds)
            ends = np.cumsum(len(layers) * (sizes * (sizes - 1) // 2)).tolist()
            if room.size < ends[-1]:  # of all portions: pages that were never touched take longer than the products
                room = np.empty(ends[-1])
            batches = list(zip([0, *ends], (bounds[:-1] - bounds[0]).tolist(), sizes.tolist(), strict=False))
            for i, key in enumerate(keys):
                numbers = next(taken)
                collect(i - 1)
                multiply = partial(_multiply, numbers, room, layer=i, n_layers=len(layers), key=key, is_near=is_near[i])
                multiplied = layers[i].spread(multiply, batches, size=min(_BATCHES_OF_TASK, -(-len(batches) // 2)))
        collect(-1)
    return (total + np.tril(total, -1).T) / n_rows


def _taken_ahead(layers: list[Portions], all_bounds: list[np.ndarray]) -> Generator[np.ndarray]:
    """Rows between bounds, layer by layer, each read while the two before are worked on.

    Two are read at once: while the last of one is decoded the next one is fetched, and threads that decode go on.
    """
    with ThreadPoolExecutor(_READ_AT_ONCE, "mistique-portions") as reader:

        def submit(function: Callable[..., T], *arguments: int) -> Future[T]:
            # What is said of this question holds on the other threads too.
            return reader.submit(copy_context().run, function, *arguments)

        ahead: list[Future[np.ndarray]] = []
        for bounds in all_bounds:
            if len(all_bounds) > 1 and bounds is all_bounds[-1]:
                for portions in layers:
                    submit(portions.plan_whole)  # asked for in the end; it takes as long as a product
            for portions in layers:
                ahead.append(submit(portions.take, int(bounds[0]), int(bounds[-1])))
                if len(ahead) >= _READ_AT_ONCE:
                    yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def _multiply(
    numbers: np.ndarray,
    room: np.ndarray,
    batches: list[tuple[int, int, int]],
    *,
    layer: int,
    n_layers: int,
    key: str,
    is_near: bool,
) -> tuple[np.ndarray, bool]:
    """The products of one layer in some batches: where in `room` those of all layers lie, the first row, and the rows.

    Columns are multiplied as they are if they are near zero, and less their means if not, or if one of them was not.

    Returns
    -------
    ndarray of shape (n_layers,)
        The sum of HSIC_1 between it and each layer up to it, times the number of rows; zeros for those behind it.
    bool
        Whether all of them are near.
    """
    total, are_near = np.zeros(n_layers), is_near
    with np.errstate(invalid="ignore", over="ignore"):
        for n, alike in groupby(batches, key=itemgetter(2)):
            (begin, first, _), *others = alike
            n_batches = 1 + len(others)
            centred = room[begin : begin + n_batches * n_layers * (n * (n - 1) // 2)].reshape(n_batches, n_layers, -1)
            products, done = np.empty((0, n, n)), 0
            if is_near:
                products = _products(_rows(numbers, first, n_batches, n))
                done = add_hsic(products, centred, layer, _LEAST_LEFT, total)
            are_near &= done == n_batches
            while done < n_batches:
                rows, is_finite = _less_means(numbers, first + done * n, n)
                if not is_finite:
                    check_finite(numbers[first + done * n : first + (done + 1) * n], key)
                # Written over the products of the first batch, which are not looked at again.
                add_hsic(_products(rows[None]), centred[done:], layer, 0.0, total)
                done += 1 + add_hsic(products[done + 1 :], centred[done + 1 :], layer, _LEAST_LEFT, total)
    return total, are_near


def _portions_of_batches(layers: list[Portions], n_rows: int, batch_rows: int) -> Iterator[np.ndarray]:
    """Bounds of batches, some at a time: as many as the widest layer holds in a portion."""
    bounds = np.append(np.arange(0, n_rows, batch_rows), n_rows)
    if len(bounds) > 2 and n_rows - bounds[-2] < max(batch_rows / 2, FEWEST_ROWS):
        bounds = np.delete(bounds, -2)
    widest = max(portions.n_columns for portions in layers)
    # Products of all layers wait for one another too.
    cells = max(widest, len(layers) * batch_rows) * batch_rows
    at_once = max(CELLS_AT_ONCE // cells, 1)
    whole_blocks = ROW_BLOCK_ROWS // batch_rows
    if whole_blocks > 1 and whole_blocks * widest * batch_rows <= 2 * CELLS_AT_ONCE:
        # What ends within row blocks decodes them twice.
        at_once = max(at_once // whole_blocks, 1) * whole_blocks
    for first in range(0, len(bounds) - 1, at_once):
        yield bounds[first : first + at_once + 1]


def gram_of(numbers: np.ndarray) -> np.ndarray:
    """The products of all rows, U-centred, of each pair once: those of a row and itself are zero.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows, ...), float32 or float64
        Finite; multiplied in their own type.

    Returns
    -------
    ndarray of shape (n_rows * (n_rows - 1) // 2,), float64
    """
    n = len(numbers)
    rows, _ = _less_means(numbers, 0, n)
    out = np.empty(n * (n - 1) // 2)
    centring.centre_products(_products(rows[None])[0], np.empty(n), out)
    return out


def _rows(numbers: np.ndarray, first: int, n_batches: int, n: int) -> np.ndarray:
    """Batches of rows, (n_batches, n, n_columns), as they lie: those of a row together, or those of a column."""
    n_columns, some = prod(numbers.shape[1:]), slice(first, first + n_batches * n)
    if numbers.T.flags.c_contiguous:
        return numbers.T.reshape(n_columns, -1)[:, some].T.reshape(n_batches, n, n_columns)
    return numbers[some].reshape(n_batches, n, n_columns)


def _less_means(numbers: np.ndarray, first: int, n: int) -> tuple[np.ndarray, bool]:
    """Some rows less the means of their columns, and whether these are finite, as they are where all values are.

    Once they are centred their products are the same but for the rounding: those of rows far from zero would drown what
    they differ in.
    """
    n_columns = prod(numbers.shape[1:])
    means, room = np.empty(n_columns), scratch(f"centred {numbers.dtype.char}", n * n_columns, numbers.dtype)
    if numbers.T.flags.c_contiguous:
        lines = room.reshape(n_columns, n)
        centring.centre_lines(numbers.T.reshape(n_columns, -1), first, means, lines)
        rows = lines.T
    else:
        rows = room.reshape(n, n_columns)
        centring.centre_columns(np.ascontiguousarray(_rows(numbers, first, 1, n)[0]), means, rows)
    return rows, bool(np.isfinite(means).all())


def _products(rows: np.ndarray) -> np.ndarray:
    """The products of rows, batch by batch, in room that the next ones of this thread write over."""
    n_batches, n, _ = rows.shape
    products = scratch(f"products {rows.dtype.char}", n_batches * n * n, rows.dtype).reshape(n_batches, n, n)
    return np.matmul(rows, rows.transpose(0, 2, 1), out=products)
