"""How much an answer changes when it is computed from stored activations in place of exact ones."""

from __future__ import annotations

import numpy as np


def neighbour_overlap(exact: np.ndarray, found: np.ndarray, *, n_queries: int, k: int = 50) -> float:
    """Share of the true k nearest rows, by Euclidean distance, that are among the k nearest by the found values.

    Parameters
    ----------
    exact, found : ndarray of shape (n_rows, ...)
    n_queries : int
        Rows that ask, spread evenly over all. None is its own neighbour.
    k : int, default 50
    """
    queries = np.linspace(0, len(exact) - 1, n_queries).astype(np.int64)
    true, other = (_neighbours(values, queries, k) for values in (exact, found))
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(true, other, strict=True)]))


def _neighbours(values: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    # float64: the differences of distances are small against the squares that they are computed from.
    rows = values.reshape(len(values), -1).astype(np.float64)
    distances = np.square(rows).sum(axis=1)[None, :] - 2 * rows[queries] @ rows.T
    distances[np.arange(len(queries)), queries] = np.inf
    nearest: np.ndarray = np.argpartition(distances, k, axis=1)[:, :k]
    return nearest


def svcca(one: np.ndarray, other: np.ndarray, *, variance: float = 0.99) -> float:
    """Mean canonical correlation of two layers over the same rows, each cut to the directions of most variance.

    Notes
    -----
    Raghu et al. 2017, DOI 10.48550/arXiv.1706.05806: singular vectors that hold 99% of the variance, then canonical
    correlations, which are the singular values of the product of the two orthonormal bases.
    """
    correlations = np.linalg.svd(_directions(one, variance).T @ _directions(other, variance), compute_uv=False)
    return float(np.minimum(correlations, 1).mean())


def _directions(values: np.ndarray, variance: float) -> np.ndarray:
    """Left singular vectors, from whichever of the two Gram matrices is smaller."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    rows -= rows.mean(axis=0)
    is_wide = rows.shape[1] > rows.shape[0]
    squares, vectors = np.linalg.eigh(rows @ rows.T if is_wide else rows.T @ rows)
    squares, vectors = squares[::-1].clip(min=0), vectors[:, ::-1]
    n_kept = int(np.searchsorted(np.cumsum(squares) / squares.sum(), variance)) + 1
    kept = vectors[:, :n_kept] if is_wide else rows @ (vectors[:, :n_kept] / np.sqrt(squares[:n_kept]))
    return np.asarray(kept)


def is_among_top(scores: np.ndarray, positions: np.ndarray) -> float:
    """Share of answered rows whose exact score is no lower than that of the last row that belongs there."""
    lowest = np.sort(scores)[-len(positions)]
    return float(np.mean(scores[positions] >= lowest))
