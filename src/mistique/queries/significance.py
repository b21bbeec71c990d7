"""Whether a difference is more than chance, and what many looks make of that."""

from __future__ import annotations

from math import lgamma

import numpy as np

from mistique.errors import QueryError

CORRECTIONS = ("holm", "benjamini-hochberg")
_MAX_TERMS, _TINY = 300, 1e-300


def welch_p(
    mean: np.ndarray,
    variance: np.ndarray,
    n: np.ndarray,
    *,
    other_mean: np.ndarray,
    other_variance: np.ndarray,
    other_n: np.ndarray,
) -> np.ndarray:
    """One-sided p that the first of two means is the larger by chance alone.

    Parameters
    ----------
    mean, variance, n, other_mean, other_variance, other_n : ndarray of one shape
        Of two independent samples; variances with ``n - 1``. With fewer than two rows on a side p is 1.

    Returns
    -------
    ndarray, float64

    Notes
    -----
    Welch, Biometrika 34, 1947, doi 10.1093/biomet/34.1-2.28. Held against SciPy by ``tests/queries/test_slices.py``.

    Examples
    --------
    >>> args = [np.array([v]) for v in (2.0, 1.0, 50, 1.5, 1.0, 50)]
    >>> names = "other_mean", "other_variance", "other_n"
    >>> welch_p(*args[:3], **dict(zip(names, args[3:]))).round(4)
    array([0.007])
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first, second = variance / n, other_variance / other_n
        spread = first + second
        t = (mean - other_mean) / np.sqrt(spread)
        freedom = spread**2 / (first**2 / (n - 1) + second**2 / (other_n - 1))
        p = student_tail(t, freedom)
    # Without any spread there is nothing that chance could have done.
    p = np.where(spread == 0, np.where(mean > other_mean, 0.0, 1.0), p)
    return np.where((n < 2) | (other_n < 2) | np.isnan(p), 1.0, p)


def student_tail(t: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """The probability that Student's t with so many degrees of freedom is above `t`.

    Parameters
    ----------
    t, freedom : ndarray of one shape, float64

    Examples
    --------
    >>> student_tail(np.array([0.0, 1.96]), np.array([5.0, 1e6])).round(4)
    array([0.5  , 0.025])
    """
    half = 0.5 * _incomplete_beta(0.5 * freedom, freedom / (freedom + t**2))
    tail: np.ndarray = np.where(t >= 0, half, 1.0 - half)
    return tail


def _incomplete_beta(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The regularized incomplete beta function I_x(a, 1/2), by its continued fraction (DLMF 8.17.22)."""
    b = np.full_like(a, 0.5)
    # The fraction converges quickly below this x; above it the symmetry I_x(a, b) = 1 - I_(1-x)(b, a) is taken.
    is_swapped = x > (a + 1.0) / (a + b + 2.0)
    a, b, x = np.where(is_swapped, b, a), np.where(is_swapped, a, b), np.where(is_swapped, 1.0 - x, x)
    gammas = np.vectorize(lgamma, otypes=[float])
    with np.errstate(divide="ignore"):  # x may be 0, and the result then is
        scale = np.exp(gammas(a + b) - gammas(a) - gammas(b) + a * np.log(x) + b * np.log1p(-x)) / a
    value = scale * _fraction(a, b, x)
    return np.asarray(np.where(is_swapped, 1.0 - value, value))


def _fraction(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """That continued fraction, by the method of Lentz."""
    c = np.ones_like(x)
    d = 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d.copy()
    for m in range(1, _MAX_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _not_zero(1.0 + term * d)
            c = _not_zero(1.0 + term / c)
            value = value * d * c
        if np.nanmax(np.abs(d * c - 1.0), initial=0.0) < 1e-14:
            break
    return value


def _not_zero(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < _TINY, _TINY, values)


def adjusted(p: np.ndarray, *, method: str = "holm", n_looks: int | None = None) -> np.ndarray:
    """The p values, corrected for the number of looks.

    Parameters
    ----------
    p : ndarray of shape (n,), float64
    method : {"holm", "benjamini-hochberg"}, default "holm"
        The chance of a single false find, whatever the looks have in common; or the share of false finds among the
        finds, for looks that are independent or go together.
    n_looks : int, optional
        How many there were; those that are not in `p` count as 1. None: `n`.

    Returns
    -------
    ndarray of shape (n,), float64

    Notes
    -----
    Holm, Scand. J. Statist. 6, 1979, jstor 4615733; Benjamini and Hochberg, J. R. Stat. Soc. B 57, 1995,
    doi 10.1111/j.2517-6161.1995.tb02031.x. Held against SciPy and a plain loop by ``tests/queries/test_slices.py``.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    >>> adjusted(np.array([0.01, 0.04, 0.03]), method="benjamini-hochberg")
    array([0.03, 0.04, 0.04])
    >>> adjusted(np.array([0.01]), method="none")
    Traceback (most recent call last):
    ...
    mistique.errors.QueryError: correction: expected one of holm, benjamini-hochberg; got 'none'
    """
    if method not in CORRECTIONS:
        raise QueryError(f"correction: expected one of {', '.join(CORRECTIONS)}; got {method!r}")
    total = len(p) if n_looks is None else n_looks
    order = np.argsort(p, kind="stable")
    ranks = np.arange(len(p))
    if method == "holm":
        scaled = np.maximum.accumulate(p[order] * (total - ranks))
    else:
        scaled = np.minimum.accumulate((p[order] * total / (ranks + 1))[::-1])[::-1]
    result = np.empty(len(p))
    result[order] = np.minimum(scaled, 1.0)
    return result
