"""The rule by which what was measured becomes a cost."""

from __future__ import annotations

import numpy as np

from mistique.kernels.log_errors import settle

# A measurement that is off by more than a third counts less, in proportion to how far it is off (Huber's weights).
_HUBER = 1 / 3
# Where a round begins counts as much as a fiftieth of one measurement.
_PRIOR_WEIGHT = 0.02
# Each kind of what was measured here before counts as much as a quarter of one measurement of that kind alone.
_MEASURED_WEIGHT = 0.25
_N_ROUNDS, _N_SWEEPS = 8, 8
# A round that moves nothing by more is the last.
_SETTLED = 1e-3
# Of what was found in the round before: what seems to cost nothing may yet turn out to cost something.
_FLOOR = 0.1
# So far one measurement may ask a round to go, as a factor: a logarithm is straight for a short way only.
_LEAST_STEP, _LARGEST_STEP = 0.3, 3.0


def fitted(work: np.ndarray, seconds: np.ndarray, start: np.ndarray, *, is_measured: bool = False) -> np.ndarray:
    """Seconds that each kind of work takes, none of them negative.

    Parameters
    ----------
    work : ndarray of shape (n_measurements, n_kinds)
    seconds : ndarray of shape (n_measurements,)
        Above 0.
    start : ndarray of shape (n_kinds,)
        What is assumed before anything is measured, above 0.
    is_measured : bool, default False
        What is assumed was measured here itself, kind by kind: what measurements say nothing of stays as it is. Else
        it is of another machine, and what makes one kind slower makes all of them so.

    Returns
    -------
    ndarray of shape (n_kinds,)

    Notes
    -----
    Least squares of the *logarithm* of predicted over measured: a read of 1 ms counts as much as one of 1 s, and half
    as long as much as twice as long. By the relative error every prediction would be too short, as chance makes slower
    by more than it makes quicker. Huber's weights: one slow run, of a machine that was busy, moves a plan
    by little. Each of up to eight rounds (Gauss-Newton) begins where the one before ended, the first at the start, made
    as much faster or slower as the median measurement is unless the start was measured; a small pull towards there
    decides where nothing tells kinds of work apart. Held by ``tests/planner/test_cost.py``.

    Examples
    --------
    >>> work = np.array([[1.0, 10.0], [1.0, 100.0], [1.0, 1000.0]])
    >>> fitted(work, np.array([0.12, 0.30, 2.10]), np.array([0.01, 0.01])).round(3)
    array([0.1  , 0.002])
    """
    scaled = work * start
    units = np.ones(len(start))
    if not is_measured:
        known = np.sort((scaled / seconds[:, None]).sum(axis=1))
        units /= known[len(known) // 2]
    steps = _LEAST_STEP, _LARGEST_STEP, _FLOOR, _SETTLED
    home = _MEASURED_WEIGHT if is_measured else 0.0
    settle(scaled, seconds, units, _PRIOR_WEIGHT, home, _HUBER, *steps, _N_ROUNDS, _N_SWEEPS * len(start))
    found: np.ndarray = units * start
    return found
