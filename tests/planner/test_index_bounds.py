"""The bounds that an index keeps: around every value, tight where values come up often or are among the extremes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mistique.errors import ChunkCorruptError
from mistique.planner.index_bounds import pack_bounds, unpack_bounds


def relu(n_rows: int, seed: int = 0) -> np.ndarray:
    """Two columns, about 60% of them zero."""
    return (np.random.default_rng(seed).normal(size=(2, n_rows)) - 0.25).clip(0).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(values=arrays.arrays(np.float32, (2, 90), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_every_value_lies_between_its_bounds(values: np.ndarray) -> None:
    lower, upper = unpack_bounds(pack_bounds(values), values.shape)
    assert (lower <= values).all()
    assert (values <= upper).all()


def test_the_extreme_rows_and_what_comes_up_often_have_bounds_that_are_one_number() -> None:
    values = relu(5000)
    lower, upper = unpack_bounds(pack_bounds(values), values.shape)
    for column, low, high in zip(values, lower, upper, strict=True):
        known = low == high
        assert known[np.argsort(-column, kind="stable")[:25]].all()
        assert known[column == 0].all()
        np.testing.assert_array_equal(low[known], column[known])
        assert known.mean() < 0.8


def test_six_bits_a_value_whatever_the_distribution() -> None:
    random = np.random.default_rng(0)
    for values in (
        random.normal(size=(1, 10_000)),
        random.lognormal(0, 2, (1, 10_000)),
        random.uniform(size=(1, 10_000)),
    ):
        values = values.astype(np.float32)
        assert 0.15 * values.nbytes < pack_bounds(values).nbytes < 0.2 * values.nbytes


def test_partitions_are_about_equally_wide() -> None:
    values = np.random.default_rng(1).normal(size=(1, 30_000)).astype(np.float32)
    lower, upper = unpack_bounds(pack_bounds(values), values.shape)
    widths = (upper - lower)[lower < upper]
    assert widths.max() < 0.1
    assert np.median(widths) > 0.5 * widths.max()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_of_a_column_with_a_value_that_is_not_finite_nothing_is_known(special: float) -> None:
    values = relu(100)
    values[1, 7] = special
    lower, upper = unpack_bounds(pack_bounds(values), values.shape)
    assert np.isnan(lower[1]).all()
    assert np.isnan(upper[1]).all()
    assert (lower[0] <= values[0]).all()


@pytest.mark.parametrize("n_rows", [1, 2, 31, 33])
def test_few_rows_and_wide_and_narrow_floats(n_rows: int) -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        values = np.random.default_rng(n_rows).normal(size=(1, n_rows)).astype(dtype)
        values = values.astype(np.float64 if dtype == np.float64 else np.float32)
        lower, upper = unpack_bounds(pack_bounds(values), values.shape)
        assert ((lower <= values) & (values <= upper)).all()


def test_a_damaged_payload_is_an_error_of_ours() -> None:
    payload = pack_bounds(relu(300))
    for at in (0, 1, 5, 9, 10, len(payload) // 2):
        broken = payload.copy()
        broken[at] ^= 0x55
        try:
            lower, _ = unpack_bounds(broken, (2, 300))
        except ChunkCorruptError:
            continue
        assert lower.shape == (2, 300)
    with pytest.raises(ChunkCorruptError):
        unpack_bounds(payload[:40], (2, 300))
