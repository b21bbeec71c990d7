"""Approximate neighbours: what they find, and what they say of themselves."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import mistique
from mistique.codecs import Power
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import put_layer

pytest.importorskip("usearch", reason="the extra ann")


@pytest.fixture
def key(store: Store) -> str:
    """A layer of rows in twenty clusters."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 64)) * 5
    values = centres[rng.integers(20, size=3000)] + rng.normal(size=(3000, 64))
    return put_layer(store, values.astype(np.float32), codec=Power(bits=8))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_most_of_the_nearest_are_found_and_the_recall_says_how_many(store: Store, key: str, distance: str) -> None:
    n_found = 0
    for position in range(0, 3000, 100):
        true = mistique.knn(store, key, position=position, distance=distance)
        found = mistique.knn(store, key, position=position, distance=distance, approximate=True)
        assert position not in found.positions
        assert len(found) == 10
        assert true.recall is None
        n_found += len(np.intersect1d(true.positions, found.positions))
        common = np.isin(found.positions, true.positions)
        expected = true.values[np.isin(true.positions, found.positions)]
        np.testing.assert_allclose(found.values[common], expected, rtol=1e-12)
    assert found.recall is not None
    assert 0.8 < found.recall <= 1.0
    assert abs(n_found / 300 - found.recall) < 0.15
    assert f"approximate: {found.recall:.0%} of the ten nearest rows were found" in repr(found)
    assert len(store.row_graphs) == 1


def test_a_graph_of_other_columns_or_of_what_was_captured_anew_is_another(store: Store, key: str) -> None:
    mistique.knn(store, key, position=0, approximate=True)
    mistique.knn(store, key, position=0, approximate=True, unit=[1, 2, 3])
    put_layer(store, np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32))
    mistique.knn(store, "lab/model@latest/train/layer", position=0, approximate=True)
    assert len(store.row_graphs) == 3


def test_what_has_no_graph_is_said(store: Store, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueryError, match="expected one of euclidean, cosine"):
        mistique.knn(store, key, position=0, distance="manhattan", approximate=True)
    holed = np.ones((30, 5), np.float32)
    holed[7, 3] = np.nan
    other = put_layer(store, holed, dataset="holed")
    with pytest.raises(QueryError, match="finite numbers"):
        mistique.knn(store, other, position=0, approximate=True)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(QueryError, match=r"mistique\[ann\]"):
        mistique.knn(store, key, position=0, approximate=True)
