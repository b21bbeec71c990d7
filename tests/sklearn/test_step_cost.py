"""What a step takes is told apart from its fit, and the call from the rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge

from mistique.sklearn import Pipeline
from mistique.sklearn.step_cost import Timed, needs_more, step_cost
from mistique.store import Store

FIT_SECONDS = 0.5


class SlowToFit(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, X: Any, y: Any = None) -> SlowToFit:
        time.sleep(FIT_SECONDS)
        self.is_fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X * 2


def test_a_call_and_a_row_are_told_apart_by_two_runs() -> None:
    assert step_cost(Timed(10, 1.1), Timed(1010, 11.1)) == pytest.approx((1.0, 0.01))


def test_of_several_longer_runs_the_least_slope_counts() -> None:
    assert step_cost(Timed(10, 1.1), Timed(1010, 1011.1), Timed(110, 2.1)) == pytest.approx((1.0, 0.01))


def test_noise_makes_nothing_negative() -> None:
    assert step_cost(Timed(10, 2.0), Timed(1000, 1.0)) == (1.0, 0.0)
    assert step_cost(Timed(10, 1.0), Timed(20, 100.0)) == (0.0, pytest.approx(9.9))


def test_what_ran_once_is_all_rows_and_what_never_ran_is_nothing() -> None:
    assert step_cost(Timed(10, 1.0), None) == (0.0, 0.1)
    assert step_cost(None, None) == (0.0, 0.0)


def test_more_rows_are_run_where_a_fit_may_be_most_of_the_time() -> None:
    few = Timed(64, 0.002)
    assert needs_more(few, Timed(60_000, 1.0), 60_000)
    assert needs_more(few, None, 60_000)
    assert not needs_more(few, Timed(60_000, 0.004), 60_000)
    assert not needs_more(few, Timed(1000, 1.0), 1000)
    assert not needs_more(None, Timed(60_000, 1.0), 60_000)


def test_the_fit_of_a_step_is_no_part_of_what_running_it_is_said_to_take(store: Store) -> None:
    X = np.random.default_rng(0).normal(size=(8192, 3))
    pipe = Pipeline([("slow", SlowToFit()), ("ridge", Ridge())]).set_capture(store, model="homes/slow")
    pipe.fit(X, X[:, 0])
    _, node = store.catalog.find("homes/slow@1/train/slow")
    assert 0 < node.forward_seconds_per_call + node.n_rows * node.forward_seconds_per_row < FIT_SECONDS
