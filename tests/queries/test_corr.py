"""CORR against pandas: nulls left out pair by pair, rows matched by label, layers by units."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import put, put_layer


def table(n_rows: int = 300) -> pd.DataFrame:
    """Numbers far from zero, one with gaps, one that never varies, and a text."""
    random = np.random.default_rng(0)
    base = random.normal(size=n_rows)
    frame = pd.DataFrame({"a": 1e6 + base, "b": base + random.normal(size=n_rows), "gaps": -base})
    frame.loc[::7, "gaps"] = np.nan
    return frame.assign(same=0.1, text="x")


@pytest.mark.parametrize("step", [64, 10**6])
def test_every_pair_is_that_of_pandas(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(sys.modules["mistique.queries.portions"], "CELLS_AT_ONCE", step)
    frame = table(3000)
    answer = mistique.corr(store, put(store, frame))
    expected = frame.drop(columns="text").corr()
    assert answer.columns == tuple(expected.columns) == tuple(answer.rows)
    np.testing.assert_allclose(answer.values[:3, :3], expected.to_numpy()[:3, :3], atol=1e-9)
    assert np.isnan(answer.values[3]).all()
    assert answer.counts[0].tolist() == [3000, 3000, int(frame["gaps"].notna().sum()), 3000]
    assert answer.left_out == ("text",)
    assert [pair[:2] for pair in answer.strongest][:1] == [("a", "gaps")]
    assert len(answer.strongest) == 3
    assert "without text" in repr(answer)


def test_rows_of_two_stages_are_matched_by_label(store: Store) -> None:
    frame = table().drop(columns=["text", "same"])
    shuffled = frame.sample(200, random_state=1)
    key, other = put(store, frame, labels=frame.index), put(store, shuffled, labels=shuffled.index, dataset="valid")
    answer = mistique.corr(store, key, other=other, columns=["a", "b"], other_columns="b")
    np.testing.assert_allclose(answer.values[:, 0], shuffled.corr()["b"][["a", "b"]], atol=1e-9)


def test_values_can_be_given_for_each_row(store: Store) -> None:
    frame = table()
    key = put(store, frame)
    answer = mistique.corr(store, key, other=frame["b"].to_numpy() * -2, columns=["a", "b"])
    np.testing.assert_allclose(answer.values[:, 0], [-frame["a"].corr(frame["b"]), -1.0], atol=1e-9)
    for bad in (np.zeros(3), np.array(["x"] * 300), np.zeros((300, 1, 1))):
        with pytest.raises(QueryError, match="other: expected a key, or numbers for each of 300 rows"):
            mistique.corr(store, key, other=bad)


def test_a_feature_map_is_compared_by_units(store: Store) -> None:
    maps = np.random.default_rng(0).normal(size=(400, 2, 3, 4)).astype(np.float32)
    key = put_layer(store, maps)
    for reduce in ("mean", "max"):
        units = pd.DataFrame(getattr(maps.reshape(400, 6, 4).astype(float), reduce)(axis=1))
        np.testing.assert_allclose(mistique.corr(store, key, reduce=reduce).values, units.corr(), atol=1e-6)
    with pytest.raises(QueryError, match="reduce: expected"):
        mistique.corr(store, key, reduce="none")


def test_quantized_values_have_no_bound(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    answer = mistique.corr(store, put_layer(store, values, codec=mistique.Power(8)))
    assert answer.max_abs_error == np.inf
    np.testing.assert_allclose(answer.values, pd.DataFrame(values).corr(), atol=0.02)
