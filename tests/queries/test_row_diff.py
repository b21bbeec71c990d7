"""ROW_DIFF against a plain loop: names, order, labels, what is missing, and the bound of a difference."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import put, put_layer
from tests.reference import diagnosis as oracle

ODD = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.5, -3.0, math.nan, math.inf, -math.inf])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ODD, ODD), min_size=1, max_size=20))
def test_columns_come_in_the_order_of_the_oracle(store: Store, pairs: list[tuple[float, float]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    names = [f"c{i}" for i in range(len(pairs))]
    frame = pd.DataFrame([first, second, first], columns=names)
    answer = mistique.row_diff(store, put(store, frame), rows=(0, 1))
    expected = oracle.differing_columns(first, second)
    assert answer.rows.tolist() == [names[i] for i in expected]
    np.testing.assert_array_equal(answer.values[:, 0], [first[i] for i in expected])
    np.testing.assert_array_equal(answer.values[:, 1], [second[i] for i in expected])


def test_text_that_differs_is_told_apart_from_numbers(store: Store) -> None:
    frame = pd.DataFrame({"zone": ["north", "south"], "city": ["x", "x"], "sqft": [1.0, 4.0]}, index=["a", "b"])
    answer = mistique.row_diff(store, put(store, frame, labels=frame.index), rows=("a", "b"))
    assert answer.texts == {"zone": ("north", "south")}
    assert answer.to_frame().loc["sqft"].tolist() == [1.0, 4.0, 3.0]
    assert answer.columns == ("a", "b", "difference")
    assert "north" in repr(answer)


def test_positions_of_a_feature_map_are_named_by_unit_and_place(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    answer = mistique.row_diff(store, put_layer(store, values), rows=(1, 4))
    for name, (a, b, difference) in zip(answer.rows, answer.values, strict=True):
        unit, place = name.split(" at ")
        y, x = map(int, place.split(","))
        assert (a, b) == (values[1, y, x, int(unit)], values[4, y, x, int(unit)])
        assert difference == pytest.approx(b - a)
    assert len(answer) == 24


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_units_are_compared_by_one_number_each(store: Store, reduce: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    answer = mistique.row_diff(store, put_layer(store, values), positions=(0, -1), reduce=reduce, unit=[3, 1])
    by_unit = getattr(values.astype(np.float64), reduce)(axis=(1, 2))
    for name, (a, b, _) in zip(answer.rows, answer.values, strict=True):
        np.testing.assert_allclose([a, b], [by_unit[0, int(name)], by_unit[4, int(name)]])
    assert sorted(answer.rows) == ["1", "3"]


def test_the_second_row_may_be_of_another_version(store: Store) -> None:
    one = put(store, pd.DataFrame({"a": [1.0], "b": [2.0]}, index=["r"]), labels=["r"])
    two = put(store, pd.DataFrame({"b": [5.0], "c": [9.0]}, index=["r"]), labels=["r"], model="lab/other")
    answer = mistique.row_diff(store, one, rows=("r", "r"), against=two)
    assert answer.to_frame().to_numpy().tolist() == [[2.0, 5.0, 3.0]]
    assert (answer.other, answer.other_plan.key) == (two, two)
    assert answer.only_in_one == ("a", "c")


def test_the_bound_of_a_difference_holds_both_errors(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    key = put_layer(store, values, codec="power")
    answer = mistique.row_diff(store, key, rows=(3, 280))
    order = [int(name) for name in answer.rows]
    error = np.abs(answer.values[:, 2] - (values[280] - values[3])[order])
    assert 0 < error.max() <= answer.max_abs_error
    assert answer.max_abs_error == answer.plan.max_abs_error + answer.other_plan.max_abs_error


BAD = {
    "nothing": ({}, "expected rows="),
    "both": ({"rows": ("a", "b"), "positions": (0, 1)}, "expected rows="),
    "one row": ({"rows": "ab"}, "expected two rows"),
    "three rows": ({"rows": ["a", "b", "c"]}, "expected two rows"),
    "unknown": ({"rows": ("a", "z")}, "no row is labelled 'z'"),
    "twice": ({"rows": ("a", "b")}, "2 rows are labelled 'b', at positions 1, 2"),
    "out of range": ({"positions": (0, 3)}, "from -3 to 2"),
    "reduction": ({"positions": (0, 1), "reduce": "sum"}, 'expected one of "none"'),
}


@pytest.mark.parametrize(("asked", "says"), BAD.values(), ids=BAD.keys())
def test_a_pair_of_rows_that_makes_no_sense_is_refused(store: Store, asked: dict[str, object], says: str) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=["a", "b", "b"])
    key = put(store, frame, labels=frame.index)
    with pytest.raises(QueryError, match=says):
        mistique.row_diff(store, key, **asked)


def test_layers_of_other_widths_cannot_be_compared(store: Store) -> None:
    one = put_layer(store, np.zeros((2, 4), np.float32))
    two = put_layer(store, np.zeros((2, 3), np.float32), model="lab/other")
    with pytest.raises(QueryError, match=r"4 columns and .* 3, without names"):
        mistique.row_diff(store, one, rows=(0, 1), against=two)
