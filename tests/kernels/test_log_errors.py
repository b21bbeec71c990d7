"""The fit of costs, against NumPy's solver; and what has no one answer."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels.log_errors import least_above, settle, solve
from mistique.planner.fit import fitted
from tests.reference import log_fit


@pytest.mark.parametrize("n_measurements", [1, 2, 5, 64])
@pytest.mark.parametrize("n_kinds", [1, 2, 3, 8])
@pytest.mark.parametrize("is_measured", [False, True])
def test_costs_are_those_of_the_rule_in_numpy(n_measurements: int, n_kinds: int, is_measured: bool) -> None:
    rng = np.random.default_rng(n_measurements * 10 + n_kinds)
    for never in (0, 1):  # a kind of work that there was none of
        start = 10.0 ** rng.uniform(-9, -3, n_kinds)
        work = rng.lognormal(0, 2, (n_measurements, n_kinds)) * 1e-3 / start
        work[:, 0] = 1.0
        work[:, n_kinds - never :] = 0.0 if n_kinds > 1 else 1.0
        true = start * rng.lognormal(0, 1.5, n_kinds)
        seconds = work @ true * rng.lognormal(0, 0.4, n_measurements)
        found, expected = (of(work, seconds, start, is_measured=is_measured) for of in (fitted, log_fit.fitted))
        assert np.allclose(work @ found, work @ expected, rtol=1e-9)
        assert found.min() > 0


def test_work_of_no_amount_says_nothing() -> None:
    parts, units = np.array([[0.0, 0.0], [1.0, 2.0]]), np.ones(2)
    settle(parts, np.array([5.0, 3.0]), units, 0.02, 0.0, 1 / 3, 0.3, 3.0, 0.1, 1e-3, 8, 16)
    assert np.allclose(units, 1.0)


def test_equations_are_solved_or_said_to_have_no_one_solution() -> None:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(20, 6))
    left, right, out, lower = parts.T @ parts, rng.normal(size=6), np.empty(6), np.empty((6, 6))
    assert solve(left, right, lower, out)
    assert np.allclose(left @ out, right)
    assert not solve(np.ones((6, 6)), right, lower, out)
    assert not solve(-left, right, lower, out)


def test_the_least_above_a_floor_has_nothing_to_gain_by_moving() -> None:
    rng = np.random.default_rng(1)
    parts = rng.normal(size=(20, 6))
    left, right, out = parts.T @ parts, rng.normal(size=6) * 10, np.empty(6)
    least_above(left, right, 0.1, 1000, out)
    slope = left @ out - right
    assert out.min() == 0.1
    assert np.all(slope[out == 0.1] > 0)
    assert np.allclose(slope[out > 0.1], 0, atol=0.1)
