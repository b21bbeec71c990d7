"""Means by group against a plain loop, over portions of any size, and what the groups and columns may be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import QueryError
from mistique.queries import portions
from mistique.store import Store
from tests.capturing import capturing, put, put_layer
from tests.reference import diagnosis as oracle


@pytest.mark.parametrize("cells_at_once", [1, 10**9])
@pytest.mark.parametrize("kind", ["finite", "with nan", "with inf"])
def test_means_equal_the_oracle_whatever_the_portions(
    store: Store, monkeypatch: pytest.MonkeyPatch, cells_at_once: int, kind: str
) -> None:
    monkeypatch.setattr(portions, "CELLS_AT_ONCE", cells_at_once)
    random = np.random.default_rng(0)
    values = random.normal(100, 1, size=(2500, 3)).astype(np.float32)
    if kind != "finite":
        values[random.random(values.shape) < 0.3] = np.nan
    if kind == "with inf":
        values[7, 1] = np.inf
    groups = random.choice(["b", "a", "c"], 2500)
    answer = mistique.class_means(store, put_layer(store, values), by=groups)
    expected = oracle.group_means(values.tolist(), groups.tolist())
    assert answer.rows.tolist() == ["a", "b", "c"]
    for group, means, n_rows in zip(answer.rows, answer.values, answer.n_rows, strict=True):
        np.testing.assert_allclose(means, expected[group], rtol=1e-12)
        assert n_rows == (groups == group).sum()
    assert answer.counts.sum() == (~np.isnan(values)).sum()


@pytest.mark.parametrize(("reduce", "of_row"), [("mean", np.mean), ("max", np.max), ("none", None)])
def test_the_positions_of_units_are_reduced_first(store: Store, reduce: str, of_row: object) -> None:
    values = np.random.default_rng(0).normal(size=(60, 2, 3, 4)).astype(np.float32)
    target = np.arange(60) % 3
    with capturing(store) as capture:
        capture.append("maps", values)
        capture.append("target", target, role="target")
    answer = mistique.class_means(store, "lab/model@1/train/maps", reduce=reduce)
    rows = values.astype(np.float64)
    rows = np.moveaxis(rows, 3, 1).reshape(60, -1) if of_row is None else of_row(rows, axis=(1, 2))  # type: ignore[operator]
    expected = oracle.group_means(rows.tolist(), target.tolist())
    assert answer.by == "target"
    for group, means in zip(answer.rows.tolist(), answer.values, strict=True):
        np.testing.assert_allclose(means, expected[group], rtol=1e-12)
    assert answer.columns[5] == "0 at 1,2" if reduce == "none" else answer.columns == ("0", "1", "2", "3")


def test_columns_of_text_are_left_out_and_named(store: Store) -> None:
    frame = pd.DataFrame({"zone": ["n", "s", "n"], "sqft": [1.0, 2.0, 3.0], "new": pd.array([True, None, False])})
    key = put(store, frame)
    answer = mistique.class_means(store, key, by=[0, 1, 0])
    assert answer.to_frame().columns.tolist() == ["sqft", "new"]
    np.testing.assert_array_equal(answer.values, [[2.0, 0.5], [2.0, np.nan]])
    assert answer.left_out == ("zone",)
    assert "without zone" in repr(answer)
    with pytest.raises(QueryError, match="zone holds str"):
        mistique.class_means(store, key, by=[0, 1, 0], columns="zone")


def test_a_mean_is_within_the_bound_of_the_values(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(2000, 30)).astype(np.float32)
    groups = np.arange(2000) % 4
    answer = mistique.class_means(store, put_layer(store, values, codec="power"), by=groups)
    exact = np.stack([values[groups == group].mean(axis=0, dtype=np.float64) for group in range(4)])
    assert 0 < np.abs(answer.values - exact).max() <= answer.max_abs_error


def test_one_plan_says_what_all_portions_took(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "CELLS_AT_ONCE", 1)
    values = np.zeros((3000, 2), np.float32)
    answer = mistique.class_means(store, put_layer(store, values), by=np.arange(3000) % 2)
    assert (answer.plan.n_rows, answer.plan.n_columns) == (3000, 2)
    assert "3 by read" in answer.plan.reason
    assert answer.plan.seconds is not None
