"""The power kernels against their oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistique.kernels import power as kernels
from tests.reference import power as oracle

EXTREMES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1.7e308, -1.7e308, 1.0, -1.0, 0.5]
VALUES = hnp.arrays(np.float64, st.integers(0, 40), elements=st.one_of(st.sampled_from(EXTREMES), st.floats(width=64)))


def encoded(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    params, codes = np.zeros(2), np.empty(values.shape, np.uint8)
    kernels.value_range(values, params)
    n = oracle.n_levels(bits, bool(params[1]))
    kernels.encode_power(values, params[0], n, n if params[1] else 0, codes)
    return codes, params


@given(VALUES)
@example(np.empty(0))
@example(np.full(5, np.nan))
@example(np.array([-np.inf, np.nan]))
def test_value_range_equals_the_oracle(values: np.ndarray) -> None:
    params = np.zeros(2)
    kernels.value_range(values, params)
    assert (params[0], bool(params[1])) == oracle.value_range(values.tolist())


@given(values=VALUES, bits=st.integers(3, 8))
@example(values=np.empty(0), bits=8)
@example(values=np.array(EXTREMES), bits=8)
@example(values=np.full(9, 3.25), bits=3)
@example(values=np.full(9, -0.0), bits=5)
def test_codes_equal_the_oracle(values: np.ndarray, bits: int) -> None:
    codes, _ = encoded(values, bits)
    assert codes.tolist() == oracle.encode(values.tolist(), bits)


@given(values=VALUES, bits=st.integers(3, 8))
def test_no_number_gets_a_code_of_nan_or_inf(values: np.ndarray, bits: int) -> None:
    codes, _ = encoded(values, bits)
    specials = np.isin(codes, [oracle.NAN_CODE, oracle.POSITIVE_INF_CODE, oracle.NEGATIVE_INF_CODE])
    assert (specials == ~np.isfinite(values)).all()


@given(hnp.arrays(np.uint32, st.integers(0, 70)))
def test_largest_patterns_are_those_of_numpy(patterns: np.ndarray) -> None:
    out = np.empty(2, np.uint32)
    kernels.largest_patterns(patterns, out)
    assert out.tolist() == [int((patterns & 0x7FFFFFFF).max(initial=0)), int(patterns.max(initial=0))]


@given(
    values=hnp.arrays(np.float32, st.integers(1, 70), elements=st.floats(-1000, 1000, width=32)),
    n_levels=st.integers(3, 126),
)
def test_float32_codes_equal_float32_arithmetic_in_numpy(values: np.ndarray, n_levels: int) -> None:
    values[0] = 1000
    scale = np.float32(n_levels**2 / 1000)
    levels = (np.sqrt(np.abs(values) * scale) + np.float32(0.5)).astype(np.uint8)
    expected = np.where(values == 0, 0, np.maximum(levels, 1) + np.where(values < 0, n_levels, 0))
    codes = np.empty(values.shape, np.uint8)
    kernels.encode_power_signed(values, scale, np.int32(n_levels), codes)
    assert codes.tolist() == expected.tolist()
    kernels.encode_power_positive(np.abs(values), scale, codes)
    assert codes.tolist() == np.where(values == 0, 0, np.maximum(levels, 1)).tolist()


@pytest.mark.parametrize("n_rows", [0, 3, 400])
@pytest.mark.parametrize("width", [1, 4])
def test_values_are_codes_at_the_scale_of_their_unit(n_rows: int, width: int) -> None:
    rng = np.random.default_rng(0)
    tables = np.stack([np.linspace(0, 1, 256), np.linspace(-1, 1, 256)])
    tables[:, 253:] = -np.inf, np.inf, np.nan
    scales = np.array([2.0, -0.3, 0.0, -0.0, 1e-40, 3e38])
    codes = rng.integers(0, 256, (len(scales) * width, n_rows + 2)).astype(np.uint8)[:, 1:-1]
    largest, signed = np.where(scales == 0, 1.0, np.abs(scales)), np.signbit(scales).astype(int)
    per_unit = (largest[:, None] * tables[signed]).astype(np.float32)
    room = np.full((len(codes), n_rows + 4), 7.0, np.float32)
    kernels.decode_power(codes, scales, tables, room[:, 2 : 2 + n_rows])
    wanted = np.take_along_axis(np.repeat(per_unit, width, axis=0), codes.astype(int), axis=1)
    np.testing.assert_array_equal(room[:, 2 : 2 + n_rows], wanted)
    assert (room[:, [0, 1, -2, -1]] == 7.0).all()


def test_the_range_of_scales_is_their_lowest_and_highest_and_no_number_is_seen() -> None:
    assert kernels.scale_range(np.array([0.5, -2.0, 3.0])) == (-2.0, 3.0)
    assert kernels.scale_range(np.array([-np.inf, 1.0])) == (-np.inf, 1.0)
    for place in range(3):
        scales = np.array([1.0, -2.0, 3.0])
        scales[place] = np.nan
        assert np.isnan(kernels.scale_range(scales)).all()


def test_a_wrong_dtype_is_an_error_and_not_a_wrong_answer() -> None:
    with pytest.raises(TypeError):
        kernels.value_range(np.zeros(3, np.float32), np.zeros(2))
