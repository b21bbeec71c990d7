"""The power codec."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import Power
from tests.codecs.compliance import CodecCompliance, as_floats, big_chunk, chunks, column_type, round_trip
from tests.reference import power as oracle


class TestPower3Bits(CodecCompliance):
    codec = Power(bits=3)


class TestPower5Bits(CodecCompliance):
    codec = Power()


class TestPower8Bits(CodecCompliance):
    codec = Power(bits=8)


@given(chunk=chunks(), bits=st.integers(3, 8))
def test_codes_are_the_nearest_levels(chunk: tuple[str, np.ndarray], bits: int) -> None:
    dtype, values = chunk
    codes, largest, has_negative = Power(bits).codes(values, column_type(dtype))
    numbers = as_floats(values, dtype).reshape(-1).tolist()
    expected = oracle.encode(numbers, bits)
    assert (largest, has_negative) == oracle.value_range(numbers)
    # float32 arithmetic may round a value that lies within 1e-4 of the middle of two levels to the other one.
    for number, code, wanted in zip(numbers, codes.reshape(-1).tolist(), expected, strict=True):
        assert code == wanted or abs(oracle.level(number, largest, bits, has_negative) % 1 - 0.5) < 1e-4


@given(chunk=chunks(), bits=st.integers(3, 8))
def test_decoded_doubles_equal_the_oracle(chunk: tuple[str, np.ndarray], bits: int) -> None:
    _, values = chunk
    numbers = values.astype(np.float64)
    codes, largest, has_negative = Power(bits).codes(numbers, column_type("float64"))
    expected = oracle.decode(codes.reshape(-1).tolist(), bits, largest, has_negative)
    np.testing.assert_allclose(
        round_trip(Power(bits), numbers, column_type("float64")).reshape(-1), expected, rtol=1e-15
    )


@given(chunks())
def test_zero_stays_zero_and_signs_are_kept_where_the_type_has_room(chunk: tuple[str, np.ndarray]) -> None:
    dtype, values = chunk
    expected = as_floats(values, dtype)
    back = as_floats(round_trip(Power(), values, column_type(dtype)), dtype)
    assert (back[expected == 0] == 0).all()
    is_number = ~np.isnan(expected)
    assert (np.sign(back[is_number]) * np.sign(expected[is_number]) >= 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_that_is_tiny_beside_the_largest_does_not_become_zero(sign: int) -> None:
    values = np.array([[1e-12, 0.0, 1.0, -0.0]], np.float32) * np.float32(sign)
    back = round_trip(Power(bits=3), values, column_type("float32"))
    assert np.sign(back).tolist() == [[sign, 0, sign, 0]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_comes_back_exactly(dtype: str) -> None:
    values = np.full((1, 100), 0.1, dtype)
    assert (round_trip(Power(), values, column_type(dtype)) == values).all()


def test_more_bits_state_a_smaller_bound() -> None:
    values, kind = np.linspace(-4, 9, 50)[None], column_type("float64")
    bounds = [Power(bits).max_abs_error(Power(bits).encode(values, kind), kind) for bits in range(3, 9)]
    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == len(bounds)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_is_not_far_above_the_worst_error(dtype: str) -> None:
    values, kind = np.linspace(0, 1, 100_001, dtype=dtype)[None], column_type(dtype)
    worst = np.abs(round_trip(Power(), values, kind) - values).max()
    assert worst <= Power().max_abs_error(Power().encode(values, kind), kind) <= 1.1 * worst


def test_five_bits_of_a_smooth_layer_take_less_than_three() -> None:
    kind = column_type("float32")
    values = big_chunk("float32", (64, 1024))
    assert Power().encode(values, kind).size < values.size * 3 / 8


@pytest.mark.parametrize("bits", [2, 9, 0, -1, 5.5])
def test_a_number_of_bits_out_of_range_is_refused(bits: float) -> None:
    with pytest.raises(ValueError, match="expected 3 to 8, got"):
        Power(bits)  # type: ignore[arg-type]
