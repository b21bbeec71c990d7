"""col_dist against NumPy: every value is counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import capturing, put, put_layer

if TYPE_CHECKING:
    import pandas as pd


def test_counts_and_edges_are_those_of_numpy(store: Store, homes: pd.DataFrame) -> None:
    answer = mistique.col_dist(store, put(store, homes), column="sqft_living", bins=7)
    counts, edges = np.histogram(homes["sqft_living"], 7)
    assert answer.values.tolist() == [counts.tolist()]
    np.testing.assert_allclose(answer.edges, edges)


def test_groups_by_a_column_of_the_input_share_the_bins(store: Store, homes: pd.DataFrame) -> None:
    with capturing(store, model="homes/x") as capture:
        capture.add("input", homes, role="input")
        capture.add("double", homes[["price"]].to_numpy() * 2.0, parents=("input",))
    answer = mistique.col_dist(store, "homes/x@1/train/double", bins=5, by="condition")
    assert answer.rows.tolist() == sorted(homes["condition"].unique())
    for group, counts in zip(answer.rows, answer.values, strict=True):
        expected, _ = np.histogram(homes["price"][homes["condition"] == group] * 2.0, answer.edges)
        assert counts.tolist() == expected.tolist()


def test_numbers_with_many_values_are_grouped_at_their_quartiles(store: Store, homes: pd.DataFrame) -> None:
    with capturing(store, model="homes/x") as capture:
        capture.add("input", homes, role="input")
    answer = mistique.col_dist(store, "homes/x@1/train/input", column="grade", by="price")
    assert len(answer.rows) == 4
    assert abs(answer.values.sum(axis=1) - len(homes) / 4).max() < len(homes) / 50


def test_what_is_not_finite_is_counted_apart(store: Store) -> None:
    answer = mistique.col_dist(store, put(store, np.array([1.0, np.nan, np.inf, 2.0, -np.inf])), bins=2)
    assert answer.values.tolist() == [[1, 1]]
    assert answer.n_not_finite.tolist() == [3]
    assert "3 values are null, NaN or infinite" in repr(answer)


def test_a_unit_has_all_of_its_positions_counted(store: Store) -> None:
    maps = np.random.default_rng(1).random((50, 4, 4, 3), np.float32)
    answer = mistique.col_dist(store, put_layer(store, maps), unit=1, bins=10)
    assert answer.values.tolist() == [np.histogram(maps[..., 1].astype(float), 10)[0].tolist()]


def test_text_has_a_bin_for_each_value_and_nulls_apart(store: Store) -> None:
    import pandas as pd

    frame = pd.DataFrame({"city": ["b", "a", None, "b", ""]})
    answer = mistique.col_dist(store, put(store, frame), column="city")
    assert dict(zip(answer.columns, answer.values[0].tolist(), strict=True)) == {"b": 2, "a": 1, "": 1}
    assert answer.n_not_finite.tolist() == [1]


def test_a_constant_column_has_all_values_in_one_bin(store: Store) -> None:
    assert mistique.col_dist(store, put(store, np.full(9, 4.0)), bins=3).values.max() == 9


@pytest.mark.parametrize(("by", "said"), [("conditoin", "nearest: condition"), (np.zeros(3), r"got shape \(3,\)")])
def test_an_unknown_group_is_told(store: Store, homes: pd.DataFrame, by: object, said: str) -> None:
    with capturing(store, model="homes/x") as capture:
        capture.add("input", homes, role="input")
    with pytest.raises(QueryError, match=said):
        mistique.col_dist(store, "homes/x@1/train/input", column="price", by=by)


def test_no_bins_are_told(store: Store) -> None:
    with pytest.raises(QueryError, match="bins: expected"):
        mistique.col_dist(store, put(store, np.arange(4.0)), bins=0)
