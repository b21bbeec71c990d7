"""topk against NumPy, on real homes and on values that are hard to order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import put, put_layer

if TYPE_CHECKING:
    import pandas as pd


def test_the_most_expensive_homes_come_first_by_label(store: Store, homes: pd.DataFrame) -> None:
    key = put(store, homes, labels=homes.index)
    answer = mistique.topk(store, key, column="price", k=5)
    expected = homes["price"].sort_values(ascending=False, kind="stable")[:5]
    assert answer.rows.tolist() == expected.index.tolist()
    assert answer.values.tolist() == expected.tolist()
    assert answer.max_abs_error == 0.0


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_a_unit_of_a_feature_map_is_reduced_over_its_positions(store: Store, reduce: str) -> None:
    maps = np.random.default_rng(1).standard_normal((200, 5, 4, 3)).astype(np.float32)
    answer = mistique.topk(store, put_layer(store, maps), unit=2, k=10, reduce=reduce)
    scores = getattr(maps[..., 2].reshape(200, -1).astype(np.float64), reduce)(axis=1)
    assert answer.rows.tolist() == np.argsort(-scores, kind="stable")[:10].tolist()
    np.testing.assert_allclose(answer.values, np.sort(scores)[::-1][:10])


def test_infinity_comes_first_and_nan_last_even_behind_minus_infinity(store: Store) -> None:
    key = put(store, np.array([1.0, np.nan, np.inf, -np.inf, 2.0]))
    assert mistique.topk(store, key, k=5).rows.tolist() == [2, 4, 0, 3, 1]
    assert mistique.topk(store, key, k=5, largest=False).rows.tolist() == [3, 0, 4, 2, 1]


def test_of_equal_values_the_earlier_row_comes_first(store: Store) -> None:
    assert mistique.topk(store, put(store, np.array([7.0, 3.0, 7.0, 7.0])), k=3).rows.tolist() == [0, 2, 3]


def test_more_rows_than_there_are_gives_all(store: Store) -> None:
    assert len(mistique.topk(store, put(store, np.arange(4.0)), k=100)) == 4


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "ten"])
def test_k_that_is_no_number_of_rows_is_told(store: Store, k: object) -> None:
    with pytest.raises(QueryError, match="k: expected a number of rows"):
        mistique.topk(store, put(store, np.arange(4.0)), k=k)  # type: ignore[arg-type]


def test_several_columns_without_a_choice_are_told(store: Store) -> None:
    with pytest.raises(QueryError, match="has 2 columns: say which"):
        mistique.topk(store, put(store, np.zeros((4, 2))))


def test_a_column_of_text_cannot_be_ranked(store: Store, homes: pd.DataFrame) -> None:
    key = put(store, homes.assign(city="Seattle"))
    with pytest.raises(QueryError, match="not numbers"):
        mistique.topk(store, key, column="city")


def test_a_quantized_unit_says_how_far_its_values_may_be_off(store: Store) -> None:
    values = np.random.default_rng(2).random((300, 8), np.float32)
    answer = mistique.topk(store, put_layer(store, values, codec="power"), unit=3, k=300)
    assert 0 < answer.max_abs_error < 0.04
    assert np.abs(answer.values - values[answer.positions, 3]).max() <= answer.max_abs_error
