"""Least squares of the logarithm of a sum over what was measured: which factors its parts want."""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from mistique.kernels.compile import kernel


@kernel("void(float64[:, ::1], float64[::1], float64[::1], float64, float64, float64, float64[:, ::1], float64[::1])")
def add_equations(
    parts: np.ndarray,
    measured: np.ndarray,
    units: np.ndarray,
    huber: float,
    least: float,
    largest: float,
    left: np.ndarray,
    right: np.ndarray,
) -> None:
    """Add what measurements say of the factors by which to change units: normal equations of one round.

    Parameters
    ----------
    parts : ndarray of shape (n_measurements, n_kinds), float64
    measured : ndarray of shape (n_measurements,), float64
        Above 0.
    units : ndarray of shape (n_kinds,), float64
    huber : float
        A logarithm that is off by more counts less, in proportion.
    least, largest : float
        So far one measurement may ask a round to go.
    left : ndarray of shape (n_kinds, n_kinds), float64
    right : ndarray of shape (n_kinds,), float64
    """
    n_kinds = parts.shape[1]
    share = np.empty(n_kinds, np.float64)
    for i in range(parts.shape[0]):
        predicted = np.float64(0.0)
        for j in range(n_kinds):
            share[j] = parts[i, j] * units[j]
            predicted += share[j]
        if not predicted > 0.0:  # there was nothing to do
            continue
        off = log(predicted / measured[i])
        weight = min(1.0, huber / max(abs(off), 1e-12))
        wanted = min(max(1.0 - off, least), largest)
        for j in range(n_kinds):
            share[j] /= predicted
        for j in range(n_kinds):
            weighted = weight * share[j]
            right[j] += weighted * wanted
            for k in range(n_kinds):
                left[j, k] += weighted * share[k]


@kernel("boolean(float64[:, ::1], float64[::1], float64[:, ::1], float64[::1])")
def solve(left: np.ndarray, right: np.ndarray, lower: np.ndarray, out: np.ndarray) -> bool:
    """The solution of symmetric equations by Cholesky's way; False: their matrix is not positive definite.

    Parameters
    ----------
    left : ndarray of shape (n, n), float64
    right : ndarray of shape (n,), float64
    lower : ndarray of shape (n, n), float64
        Room for the factor.
    out : ndarray of shape (n,), float64
    """
    n = right.shape[0]
    for i in range(n):
        found = right[i]
        for j in range(i):
            rest = left[i, j]
            for k in range(j):
                rest -= lower[i, k] * lower[j, k]
            lower[i, j] = rest / lower[j, j]
            found -= lower[i, j] * out[j]
        pivot = left[i, i]
        for k in range(i):
            pivot -= lower[i, k] * lower[i, k]
        if not pivot > 0.0:
            return False
        lower[i, i] = sqrt(pivot)
        out[i] = found / lower[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            out[i] -= lower[k, i] * out[k]
        out[i] /= lower[i, i]
    return True


@kernel("void(float64[:, ::1], float64[::1], float64, int64, float64[::1])")
def least_above(left: np.ndarray, right: np.ndarray, floor: float, n_sweeps: int, out: np.ndarray) -> None:
    """The least of ``u' L u - 2 r' u`` over u not below a floor, by coordinates in turn where it lies there.

    Parameters
    ----------
    left : ndarray of shape (n, n), float64
        Symmetric, above 0 on the diagonal.
    right : ndarray of shape (n,), float64
    floor : float
    n_sweeps : int
        At most.
    out : ndarray of shape (n,), float64
    """
    n = right.shape[0]
    is_least = solve(left, right, np.empty((n, n), np.float64), out)
    for i in range(n):
        is_least = is_least and out[i] >= floor
    if is_least:
        return
    out[:] = 1.0
    for _ in range(n_sweeps):
        moved = np.float64(0.0)
        for i in range(n):
            rest = np.float64(0.0)
            for j in range(n):
                rest += left[i, j] * out[j]
            new = max((right[i] - rest + left[i, i] * out[i]) / left[i, i], floor)
            moved = max(moved, abs(new - out[i]))
            out[i] = new
        if moved < 1e-3:
            return


@kernel(f"int64(float64[:, ::1], float64[::1], float64[::1], {7 * 'float64, '}int64, int64)")
def settle(
    parts: np.ndarray,
    measured: np.ndarray,
    units: np.ndarray,
    pull: float,
    home: float,
    huber: float,
    least: float,
    largest: float,
    floor: float,
    settled: float,
    n_rounds: int,
    n_sweeps: int,
) -> int:
    """Change units so that the logarithms of predicted over measured become small; how many rounds that took.

    Parameters
    ----------
    parts, measured, huber, least, largest, floor
        As above; the floor is a factor of what a round begins with.
    units : ndarray of shape (n_kinds,), float64
        Where the first round begins; takes what was found.
    pull : float
        So much counts where a round begins, against one measurement.
    home : float
        So much counts that units are 1, as if each kind had been measured alone.
    settled : float
        A round that moves nothing by more is the last.
    n_rounds, n_sweeps : int
        At most.

    Notes
    -----
    A question fits some twenty costs anew, each of a few measurements: to call NumPy for each step of it took most of
    the time of planning.
    """
    n_kinds = units.shape[0]
    left, right = np.empty((n_kinds, n_kinds), np.float64), np.empty(n_kinds, np.float64)
    factors = np.empty(n_kinds, np.float64)
    for number in range(n_rounds):
        left[:] = 0.0
        for j in range(n_kinds):
            left[j, j] = pull
        right[:] = pull
        add_equations(parts, measured, units, huber, least, largest, left, right)
        for j in range(n_kinds):
            off = log(units[j])
            weight = home * min(1.0, huber / max(abs(off), 1e-12))
            left[j, j] += weight
            right[j] += weight * min(max(1.0 - off, least), largest)
        least_above(left, right, floor, n_sweeps, factors)
        moved = np.float64(0.0)
        for j in range(n_kinds):
            units[j] *= factors[j]
            moved = max(moved, abs(factors[j] - 1.0))
        if moved < settled:
            return number + 1
    return n_rounds
