"""A rule gives what the definition gives, of any columns; and errors are handed on within their bound."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.planner.derive import columns_needed, derive_columns, derive_rows, derived_shape, is_exact, unit_major
from tests.reference.pooling import pool

WINDOWS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(3, 7))


def windowed(op: str, axes: list[tuple[int, int, bool, int]], **more: Any) -> tuple[dict[str, Any], tuple[int, ...]]:
    is_same = axes[0][2]
    rule = {
        "op": op,
        "size": [size for size, *_ in axes],
        "strides": [stride for _, stride, *_ in axes],
        "padding": "same" if is_same else "valid",
        **more,
    }
    return rule, (*(n for *_, n in axes), 2)


@given(axes=st.lists(WINDOWS, min_size=1, max_size=3), seed=st.integers(0, 99))
def test_a_maximum_is_that_of_each_window(axes: list[tuple[int, int, bool, int]], seed: int) -> None:
    rule, shape = windowed("max_pool", axes, not_finite="lowest")
    values = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    expected = pool(values, rule["size"], rule["strides"], same=axes[0][2], of_window=np.max)
    assert derived_shape(rule, shape, ()) == expected.shape[1:]
    found, error = derive_rows(rule, values, expected.shape[1:])
    assert np.array_equal(found, expected)
    assert error == 0.0


@given(axes=st.lists(WINDOWS, min_size=1, max_size=3), seed=st.integers(0, 99))
def test_an_average_is_that_of_the_cells_of_each_window(axes: list[tuple[int, int, bool, int]], seed: int) -> None:
    rule, shape = windowed("average_pool", axes)
    values = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    expected = pool(values.astype(np.float64), rule["size"], rule["strides"], same=axes[0][2], of_window=np.mean)
    found, error = derive_rows(rule, values, expected.shape[1:])
    assert np.abs(found - expected).max() <= error < 1e-5


def test_nan_is_passed_over_or_propagated_as_the_rule_says() -> None:
    values = np.array([[[np.nan], [2.0], [-np.inf], [np.nan], [1.0], [np.inf]]], np.float32)
    rule = {"op": "max_pool", "size": [2], "strides": [2], "padding": "valid"}
    lowest = np.finfo(np.float32).min
    found, _ = derive_rows({**rule, "not_finite": "lowest"}, values, (3, 1))
    assert found.ravel().tolist() == [2.0, lowest, np.inf]
    found, _ = derive_rows({**rule, "not_finite": "propagate"}, values, (3, 1))
    assert np.array_equal(found.ravel(), [np.nan, np.nan, np.inf], equal_nan=True)


RULES = [
    (windowed("max_pool", [(3, 2, True, 5), (2, 1, True, 4)])[0], (5, 4, 3)),
    (windowed("average_pool", [(2, 2, False, 5), (3, 1, False, 4)])[0], (5, 4, 3)),
    ({"op": "global_max", "keepdims": False}, (5, 4, 3)),
    ({"op": "global_average", "keepdims": True}, (5, 4, 3)),
    ({"op": "reshape"}, (5, 4, 3)),
    ({"op": "permute", "dims": [3, 1, 2]}, (5, 4, 3)),
    ({"op": "identity"}, (5, 4, 3)),
]


@pytest.mark.parametrize(("rule", "parent"), RULES, ids=lambda part: part.get("op") if isinstance(part, dict) else "")
@given(data=st.data())
def test_some_columns_are_those_of_the_whole_and_need_no_others(
    rule: dict[str, Any], parent: tuple[int, ...], data: st.DataObject
) -> None:
    child = (6, 10) if rule["op"] == "reshape" else derived_shape(rule, parent, ())
    assert child is not None
    columns = np.array(sorted(data.draw(st.sets(st.integers(0, prod(child) - 1), min_size=1))))
    values = np.random.default_rng(0).normal(size=(3, *parent)).astype(np.float32)
    cells = unit_major(values)
    needed = columns_needed(rule, columns, parent, child)
    found, _ = derive_columns(rule, cells[needed], columns=columns, parent=parent, child=child, max_abs_error=0.0)
    whole = unit_major(derive_rows(rule, values, child)[0])
    assert np.array_equal(found, whole[columns])


def test_one_unit_of_a_pool_needs_one_unit_of_its_parent() -> None:
    rule, parent = windowed("max_pool", [(2, 2, False, 8), (2, 2, False, 8)])
    assert columns_needed(rule, np.array([16]), parent, (4, 4, 2)).tolist() == list(range(64, 128))


def test_one_column_of_a_flattened_map_needs_one_column_of_the_map() -> None:
    assert columns_needed({"op": "reshape"}, np.array([5]), (4, 3), (12,)).tolist() == [2 * 4 + 1]


@pytest.mark.parametrize(("rule", "parent"), RULES, ids=lambda part: part.get("op") if isinstance(part, dict) else "")
@given(error=st.floats(0, 10), seed=st.integers(0, 99))
def test_the_bound_holds_from_a_parent_with_errors(
    rule: dict[str, Any], parent: tuple[int, ...], error: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    child = (6, 10) if rule["op"] == "reshape" else derived_shape(rule, parent, ())
    assert child is not None
    exact = rng.normal(size=(3, *parent))
    noisy = exact + rng.uniform(-error, error, exact.shape)
    error = float(np.abs(noisy - exact).max())  # the sum was rounded
    columns = np.arange(prod(child))
    found, bound = derive_columns(
        rule, unit_major(noisy), columns=columns, parent=parent, child=child, max_abs_error=error
    )
    expected = unit_major(derive_rows(rule, exact, child)[0])
    assert np.abs(found - expected).max() <= bound
    assert bound == error if is_exact(rule) else error < bound <= error + 1e-13 * (1 + error)


def test_an_average_whose_sum_could_overflow_has_no_bound() -> None:
    values = np.full((1, 4, 1), 2e38, np.float32)
    assert derive_rows({"op": "global_average", "keepdims": False}, values, (1,))[1] == np.inf


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"op": "median"},
        {"op": "max_pool"},
        {"op": "max_pool", "size": [2], "strides": [2], "padding": "valid"},
        {"op": "max_pool", "size": [2, 0], "strides": [2, 2], "padding": "valid"},
        {"op": "max_pool", "size": [2, "2"], "strides": [2, 2], "padding": "valid"},
        {"op": "max_pool", "size": [2, 2], "strides": [2, 2], "padding": "full"},
        {"op": "max_pool", "size": [9, 9], "strides": [2, 2], "padding": "valid"},
        {"op": "permute", "dims": [1, 1, 2]},
        {"op": "permute", "dims": [1, None, 2]},
        {"op": "permute"},
        {"op": "reshape"},
    ],
    ids=repr,
)
def test_what_is_no_rule_for_these_rows_has_no_shape(rule: dict[str, Any]) -> None:
    assert derived_shape(rule, (5, 4, 3), (7, 7)) is None


def test_a_window_of_any_size_takes_no_longer_than_the_map_is_wide() -> None:
    rule = {"op": "max_pool", "size": [10**15], "strides": [1], "padding": "same", "not_finite": "lowest"}
    values = np.arange(6.0).reshape(1, 6, 1)
    assert (derive_rows(rule, values, (6, 1))[0] == 5.0).all()
