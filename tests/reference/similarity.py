"""Likeness of layers by the formulas as they are printed, all rows in memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def hsic_1(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5: the unbiased estimate, of linear kernels."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(m, 0.0)
    ones = np.ones(n)
    between = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)
    return float((np.trace(k @ m) + between) / (n * (n - 3)))


def hsic_1_by_features(x: np.ndarray, y: np.ndarray) -> float:
    """The same estimate without any matrix of rows by rows, over columns alone."""
    n = len(x)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    of_x, of_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    # Sums of the kernels without their diagonals; the sum of all of a centred kernel is zero.
    trace = (x.T @ y).ravel() @ (x.T @ y).ravel() - of_x @ of_y
    sums = of_x.sum() * of_y.sum() / ((n - 1) * (n - 2))
    return float((trace + sums - 2 / (n - 2) * (of_x @ of_y)) / (n * (n - 3)))


def minibatch_cka(x: np.ndarray, y: np.ndarray, sizes: list[int]) -> float:
    """Nguyen et al. 2021, equation 3, over consecutive batches of these sizes, weighted by them."""
    bounds = np.cumsum([0, *sizes])

    def total(a: np.ndarray, b: np.ndarray) -> float:
        parts = pairwise(bounds)
        return sum((high - low) * hsic_1(a[low:high], b[low:high]) for low, high in parts)

    return float(total(x, y) / np.sqrt(total(x, x) * total(y, y)))


def svcca(x: np.ndarray, y: np.ndarray, variance: float) -> np.ndarray:
    """Raghu et al. 2017: singular vectors that hold so much variance, then the correlations of the two spaces."""

    def directions(values: np.ndarray) -> np.ndarray:
        left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
        shares = np.cumsum(sizes**2) / (sizes**2).sum()
        return left[:, : int(np.searchsorted(shares, variance)) + 1]

    correlations = np.linalg.svd(directions(x).T @ directions(y), compute_uv=False)
    return np.asarray(np.minimum(correlations, 1.0))
