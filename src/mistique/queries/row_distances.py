"""Distances of rows to one row, and how far the error of the values moves them."""

from __future__ import annotations

from math import isinf, sqrt

import numpy as np

DISTANCES = ("euclidean", "manhattan", "cosine", "chebyshev")
# Of a block that is turned to float64 at once: it stays in the cache.
_CELLS_AT_ONCE = 256 * 1024


def distances_to(rows: np.ndarray, query: np.ndarray, distance: str) -> np.ndarray:
    """The distance of each row to the query, by differences in float64, so that none cancels.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns), float32 or float64
    query : ndarray of shape (n_columns,), float64
    distance : str
        Of `DISTANCES`. The cosine distance to or from a row of zeros is 1, as in scikit-learn.

    Returns
    -------
    ndarray of shape (n_rows,), float64
    """
    found = np.empty(len(rows))
    step = max(_CELLS_AT_ONCE // max(rows.shape[1], 1), 1)
    with np.errstate(invalid="ignore", over="ignore"):
        for low in range(0, len(rows), step):
            part = rows[low : low + step].astype(np.float64)
            found[low : low + step] = _of_part(part, query, distance)
    return found


def _of_part(rows: np.ndarray, query: np.ndarray, distance: str) -> np.ndarray:
    if distance == "cosine":
        sizes = np.sqrt(np.einsum("ij,ij->i", rows, rows)) * sqrt(query @ query)
        cosines = np.divide(rows @ query, sizes, out=np.zeros(len(rows)), where=sizes != 0)
        return np.asarray(np.where(np.isnan(cosines), np.nan, np.clip(1.0 - cosines, 0.0, 2.0)))
    rows -= query
    if distance == "euclidean":
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))
    np.abs(rows, out=rows)
    return np.asarray(rows.sum(axis=1) if distance == "manhattan" else rows.max(axis=1, initial=0.0))


def distance_error(distance: str, *, n_columns: int, row_error: float, query_error: float, sizes: np.ndarray) -> float:
    """The largest error of a distance between rows whose every value is within a bound.

    Parameters
    ----------
    distance : str
    n_columns : int
    row_error, query_error : float
        Of each value of a row of the answer, and of the query.
    sizes : ndarray
        Euclidean norms of the query and of the rows as they were found, for the cosine.

    Notes
    -----
    By the triangle inequality a distance moves by no more than the two rows do. An angle moves by the arcsine of the
    movement over the norm, and a cosine by no more than its angle.
    """
    moved = row_error + query_error
    if not moved or isinf(moved):
        return moved
    if distance == "chebyshev":
        return moved
    if distance == "manhattan":
        return moved * n_columns
    if distance == "euclidean":
        return moved * sqrt(n_columns)
    smallest = float(np.min(sizes, initial=np.inf))
    turn = max(row_error, query_error) * sqrt(n_columns)
    return 2.0 if turn >= smallest else min(2.0, 2 * float(np.arcsin(turn / smallest)))
