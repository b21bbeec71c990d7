"""What follows from the values of one parent by a rule: pooling, reshaping, handing on. No model and no framework.

A rule is an `Intermediate.derivation`, of one parent with rows of shape (..., n_units):

- ``{"op": "max_pool", "size": [2, 2], "strides": [2, 2], "padding": "valid", "not_finite": "lowest"}``; sizes and
  strides for each axis but the last; padding may be ``"same"``. ``"lowest"``: NaN is passed over and the largest of a
  window is no less than the lowest finite number; ``"propagate"``: NaN stays NaN. Frameworks differ in that, kernel by
  kernel;
- ``{"op": "average_pool", ...}``, without ``not_finite``; what is padded does not count;
- ``{"op": "global_max", "keepdims": false}`` and ``"global_average"``, over all axes but the last; NaN stays NaN;
- ``{"op": "reshape"}`` to the shape of the child, ``{"op": "permute", "dims": [2, 1]}`` counted from 1, ``"identity"``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np

from mistique.kernels.distinct import distinct

Rule = Mapping[str, Any]
Shape = tuple[int, ...]

_MOVES = ("identity", "reshape", "permute")
_POOLS = ("max_pool", "average_pool")
_AVERAGES = ("average_pool", "global_average")


def derived_shape(rule: Rule, parent: Shape, child: Shape) -> Shape | None:
    """The shape of a row that a rule makes of a parent's; None: it is no rule, or not for such rows.

    Parameters
    ----------
    rule : mapping
    parent : tuple of int
    child : tuple of int
        As recorded: it says what a ``reshape`` makes.

    Examples
    --------
    >>> derived_shape({"op": "max_pool", "size": [2, 2], "strides": [2, 2], "padding": "valid"}, (5, 4, 3), (2, 2, 3))
    (2, 2, 3)
    >>> derived_shape({"op": "median"}, (4,), (4,))
    """
    op, axes = rule.get("op"), parent[:-1]
    if op == "identity":
        return parent
    if op == "reshape":
        return child if prod(child) == prod(parent) else None
    if op == "permute":
        dims = rule.get("dims")
        if not isinstance(dims, (list, tuple)) or not all(type(d) is int for d in dims):
            return None
        return tuple(parent[d - 1] for d in dims) if sorted(dims) == list(range(1, len(parent) + 1)) else None
    if op in ("global_max", "global_average") and axes:
        return (*((1,) * len(axes) if rule.get("keepdims") else ()), parent[-1])
    if op in _POOLS and axes and _is_window(rule, len(axes)):
        sizes = [
            _n_windows(n, size, stride, rule["padding"])
            for n, size, stride in zip(axes, rule["size"], rule["strides"], strict=True)
        ]
        return (*sizes, parent[-1]) if min(sizes) > 0 else None
    return None


def is_exact(rule: Rule) -> bool:
    """Values derived of exact ones are those that the model gave. An average is rounded in another order."""
    return rule["op"] not in _AVERAGES


def columns_needed(rule: Rule, columns: np.ndarray, parent: Shape, child: Shape) -> np.ndarray:
    """Columns of the parent that some columns of the child follow from, sorted.

    Parameters
    ----------
    rule : mapping
    columns : ndarray of shape (n_columns,), int64
    parent, child : tuple of int
        Shapes of a row.

    Returns
    -------
    ndarray of int64
        Of a pool: all positions of the units asked.

    Examples
    --------
    >>> rule = {"op": "max_pool", "size": [2], "strides": [2], "padding": "valid"}
    >>> columns_needed(rule, np.array([2]), (4, 2), (2, 2))
    array([4, 5, 6, 7])
    """
    if rule["op"] in _MOVES:
        return distinct(_moved_from(rule, parent, child)[columns])
    positions = prod(parent[:-1])
    units = distinct(columns // prod(child[:-1]))
    return (units[:, None] * positions + np.arange(positions)).reshape(-1)


def derive_columns(
    rule: Rule, cells: np.ndarray, *, columns: np.ndarray, parent: Shape, child: Shape, max_abs_error: float
) -> tuple[np.ndarray, float]:
    """Columns of the child.

    Parameters
    ----------
    rule : mapping
    cells : ndarray of shape (n_needed, n_rows)
        The columns of the parent that `columns_needed` names; of any type where the rule only moves, else floats.
    columns : ndarray of shape (n_columns,), int64, sorted
        Wanted of the child.
    parent, child : tuple of int
        Shapes of a row.
    max_abs_error : float
        Of the parent's values.

    Returns
    -------
    cells : ndarray of shape (n_columns, n_rows)
    max_abs_error : float
        Against what the model gave: the parent's own; of an average with what rounding adds.

    Notes
    -----
    Whatever moves values hands on their error, and so does a maximum: ``|max(a) - max(b)| <= max |a - b|``. An average
    of n values hands on the error too. The model summed its exact values in the type of the layer, in an order that is
    not known: at most ``gamma * max |x|`` off, ``gamma = m u / (1 - m u)``, ``m = n + 3`` roundings of unit u (Higham,
    doi:10.1137/0914050), and one lowest normal number for each that was flushed to zero. Here the sum is in float64.
    When the sum could have overflowed in the model the bound is infinite. Held by ``tests/planner/test_derive.py`` and
    ``tests/keras/test_derivations.py``.
    """
    op = rule["op"]
    if op in _MOVES:
        source = _moved_from(rule, parent, child)[columns]
        return cells[np.searchsorted(distinct(source), source)], max_abs_error
    positions, n_rows = prod(child[:-1]), cells.shape[1]
    units = distinct(columns // positions)
    maps = cells.reshape(len(units), *parent[:-1], n_rows)
    # Infinities and NaN come out as the model gave them, without a word of NumPy's.
    with np.errstate(invalid="ignore", over="ignore"):
        if op == "global_max":
            out = maps.max(axis=tuple(range(1, maps.ndim - 1)))
        elif op == "max_pool":
            out = _max_pool(rule, maps, child)
        else:
            n_values = prod(parent[:-1]) if op == "global_average" else prod(rule["size"])
            max_abs_error += _rounding(cells, n_values, max_abs_error)
            out = _average_pool(rule, maps, child) if op == "average_pool" else _global_average(maps)
    flat = out.reshape(-1, n_rows)
    wanted = np.searchsorted(units, columns // positions) * positions + columns % positions
    return flat if len(wanted) == len(flat) else flat[wanted], max_abs_error


def derive_rows(rule: Rule, values: np.ndarray, child: Shape) -> tuple[np.ndarray, float]:
    """Whole rows of the child, from exact rows of the parent, and their error bound.

    Parameters
    ----------
    rule : mapping
    values : ndarray of shape (n_rows, *parent)
    child : tuple of int
        Shape of a row.

    Examples
    --------
    >>> rule = {"op": "average_pool", "size": [2], "strides": [1], "padding": "same"}
    >>> derive_rows(rule, np.array([[[1.0], [3.0], [8.0]]]), (3, 1))[0].ravel()
    array([2. , 5.5, 8. ])
    """
    parent = values.shape[1:]
    columns = np.arange(prod(child))
    cells, error = derive_columns(
        rule, unit_major(values), columns=columns, parent=parent, child=child, max_abs_error=0.0
    )
    return _row_major(cells, child), error


def unit_major(values: np.ndarray) -> np.ndarray:
    """Rows of any shape as columns, the positions of a unit side by side: (n_columns, n_rows)."""
    by_row = np.moveaxis(values, -1, 1) if values.ndim > 2 else values
    return np.ascontiguousarray(by_row.reshape(len(values), -1).T)


def _row_major(cells: np.ndarray, shape: Shape) -> np.ndarray:
    """The inverse: (n_rows, *shape)."""
    rows = cells.T.reshape(cells.shape[1], *shape[-1:], *shape[:-1])
    return np.ascontiguousarray(np.moveaxis(rows, 1, -1) if len(shape) > 1 else rows)


def _is_window(rule: Rule, n_axes: int) -> bool:
    counts = rule.get("size"), rule.get("strides")
    are_counts = all(
        isinstance(c, (list, tuple)) and len(c) == n_axes and all(type(n) is int and n > 0 for n in c) for c in counts
    )
    return are_counts and rule.get("padding") in ("valid", "same")


def _n_windows(n: int, size: int, stride: int, padding: str) -> int:
    return -(-n // stride) if padding == "same" else (n - size) // stride + 1


def _moved_from(rule: Rule, parent: Shape, child: Shape) -> np.ndarray:
    """For each column of the child the column of the parent that it is; both count units outermost."""
    numbers = np.arange(prod(parent)).reshape(parent[-1:] + parent[:-1])
    moved = np.moveaxis(numbers, 0, -1) if parent else numbers
    if rule["op"] == "permute":
        moved = moved.transpose([d - 1 for d in rule["dims"]])
    moved = moved.reshape(child)
    return (np.moveaxis(moved, -1, 0) if child else moved).reshape(-1)


def _offsets(rule: Rule, parent: Shape, child: Shape) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each place within a window, row by row: the windows that have it, and the cells that lie there."""
    along: list[list[tuple[slice, slice]]] = []
    for n, n_out, size, stride in zip(parent[:-1], child[:-1], rule["size"], rule["strides"], strict=True):
        padded = max((n_out - 1) * stride + size - n, 0) if rule["padding"] == "same" else 0
        before = padded // 2
        places = []
        # Only offsets that some window has within the map: a damaged record may name a window of any size.
        for offset in range(max(before - (n_out - 1) * stride, 0), min(size, before + n)):
            shift = offset - before
            first = max(-(shift // stride), 0)
            stop = min((n - 1 - shift) // stride + 1, n_out)
            if first < stop:
                cells = slice(first * stride + shift, (stop - 1) * stride + shift + 1, stride)
                places.append((slice(first, stop), cells))
        along.append(places)
    for place in product(*along):
        yield (slice(None), *(windows for windows, _ in place)), (slice(None), *(cells for _, cells in place))


def _max_pool(rule: Rule, maps: np.ndarray, child: Shape) -> np.ndarray:
    is_propagated = rule.get("not_finite") == "propagate"
    start = -np.inf if is_propagated else _finfo(maps.dtype).min
    out = np.full((len(maps), *child[:-1], maps.shape[-1]), start, maps.dtype)
    for windows, cells in _offsets(rule, maps.shape[1:-1] + child[-1:], child):
        found, best = maps[cells], out[windows]
        # Not np.maximum: the first of equal values stays, so that of -0.0 and 0.0 the one is kept that the model kept.
        is_better = best < found
        if is_propagated:
            is_better |= np.isnan(found)
        np.copyto(best, found, where=is_better)
    return out


def _average_pool(rule: Rule, maps: np.ndarray, child: Shape) -> np.ndarray:
    total = np.zeros((len(maps), *child[:-1], maps.shape[-1]))
    n_cells = np.zeros((1, *child[:-1], 1))
    for windows, cells in _offsets(rule, maps.shape[1:-1] + child[-1:], child):
        total[windows] += maps[cells]
        n_cells[windows] += 1
    return (total / n_cells).astype(maps.dtype)


def _global_average(maps: np.ndarray) -> np.ndarray:
    averages: np.ndarray = maps.mean(axis=tuple(range(1, maps.ndim - 1)), dtype=np.float64).astype(maps.dtype)
    return averages


def _rounding(cells: np.ndarray, n_values: int, max_abs_error: float) -> float:
    """What the order of a sum and the type it is made in add to the error of an average."""
    facts = _finfo(cells.dtype)
    magnitudes = np.abs(cells[np.isfinite(cells)])
    largest = (float(magnitudes.max()) if magnitudes.size else 0.0) + max_abs_error
    if n_values * largest >= float(facts.max):
        return float("inf")
    m, unit = n_values + 3, float(facts.eps) / 2
    if m * unit >= 1:
        return float("inf")
    gamma = m * unit / (1 - m * unit)
    # Once for the model's sum, once for the one made here: of the same order in float64, only its last rounding else.
    here = gamma if cells.dtype == np.float64 else 2 * unit
    return (gamma + here) * largest + m * float(facts.tiny)


def _finfo(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
