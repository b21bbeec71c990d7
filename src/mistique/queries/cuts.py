"""A column as a few groups of rows: its values where they are few, else ranges between its quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np

_MAX_VALUES, _MAX_TEXTS = 12, 50
NULL = "null"


def cut(values: np.ndarray, *, bins: int = 4) -> tuple[np.ndarray, list[str]]:
    """The group of each row, and what the groups are called.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        Numbers with more than 12 values, and dates, are cut at their quantiles; the ranges are named by the smallest
        and the largest value in them. Of texts the 50 most frequent are groups.
    bins : int, default 4

    Returns
    -------
    codes : ndarray of shape (n_rows,), int64
        -1: in no group.
    names : list of str

    Examples
    --------
    >>> cut(np.array([0, 0, 0, 0, 0, 3, 7, 9, 10, 20, 30, 40, 50, 60, 70, 80, 90]), bins=2)[1]
    ['0 to 10', '20 to 90']
    >>> cut(np.array(["a", "b", "a", None], object))
    (array([0, 1, 0, 2]), ['a', 'b', 'null'])
    """
    if values.dtype.name == "bfloat16":
        values = values.astype(np.float64)
    if values.dtype.kind in "iufmM":
        is_known = np.ones(len(values), bool) if values.dtype.kind in "iu" else ~np.isnan(values)
        codes, names = _ranges(values[is_known], bins)
        return (codes, names) if is_known.all() else _with_null(codes, names, is_known)
    is_known = np.array([value is not None and value == value for value in values], bool)
    texts = np.array([str(value) for value in values[is_known]])
    found, which, counts = np.unique(texts, return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:_MAX_TEXTS])
    place = np.full(len(found), -1)
    place[kept] = np.arange(len(kept))
    codes, names = place[which] if len(found) else np.empty(0, np.int64), [str(name) for name in found[kept]]
    return (codes, names) if is_known.all() else _with_null(codes, names, is_known)


def _with_null(codes: np.ndarray, names: list[str], is_known: np.ndarray) -> tuple[np.ndarray, list[str]]:
    every = np.full(len(is_known), len(names))
    every[is_known] = codes
    return every, [*names, NULL]


def _ranges(values: np.ndarray, bins: int) -> tuple[np.ndarray, list[str]]:
    found, which = np.unique(values, return_inverse=True)
    if len(found) <= _MAX_VALUES:
        return which, [_name(value) for value in found]
    shares = np.arange(1, bins) / bins
    # Values that are there, never between two: a heavy value, such as the 0 of most homes' basement, ends its range;
    # where it is the largest, the value before it does.
    ends = np.unique(np.sort(values)[(shares * (len(values) - 1)).astype(int)])
    ends = np.unique(np.minimum(ends, found[-2]))
    of_value = np.searchsorted(ends, found, side="left")
    firsts = np.flatnonzero(np.diff(of_value, prepend=-1))
    lasts = np.append(firsts[1:], len(found)) - 1
    names = [
        _name(low) if low == high else f"{_name(low)} to {_name(high)}"
        for low, high in zip(found[firsts], found[lasts], strict=True)
    ]
    return (np.cumsum(np.diff(of_value, prepend=of_value[0]) > 0))[which], names


def _name(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(value).removesuffix("T00:00:00")
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)
