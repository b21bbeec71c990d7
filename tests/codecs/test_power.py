"""The power codec."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import Power
from tests.codecs.compliance import CodecCompliance, as_floats, chunks, column_type
from tests.reference import power as oracle


class TestPower3Bits(CodecCompliance):
    codec = Power(bits=3)


class TestPower5Bits(CodecCompliance):
    codec = Power()


class TestPower8Bits(CodecCompliance):
    codec = Power(bits=8)


@given(chunk=chunks(), bits=st.integers(3, 8))
def test_codes_equal_the_oracle(chunk: tuple[str, np.ndarray], bits: int) -> None:
    dtype, values = chunk
    cells, params = Power(bits).encode(values, column_type(dtype))
    numbers = as_floats(values, dtype).reshape(-1).tolist()
    assert cells.reshape(-1).tolist() == oracle.encode(numbers, bits)
    assert (params[0], bool(params[1])) == oracle.value_range(numbers)


@given(chunk=chunks(), bits=st.integers(3, 8))
def test_decoded_doubles_equal_the_oracle(chunk: tuple[str, np.ndarray], bits: int) -> None:
    _, values = chunk
    numbers = values.astype(np.float64)
    kind = column_type("float64")
    cells, params = Power(bits).encode(numbers, kind)
    back = Power(bits).decode(cells, params, kind)
    expected = oracle.decode(cells.reshape(-1).tolist(), bits, params[0], bool(params[1]))
    np.testing.assert_allclose(back.reshape(-1), expected, rtol=1e-15)


@given(chunks())
def test_zero_stays_zero_and_signs_are_kept_where_the_type_has_room(chunk: tuple[str, np.ndarray]) -> None:
    dtype, values = chunk
    kind = column_type(dtype)
    expected = as_floats(values, dtype)
    back = as_floats(Power().decode(*Power().encode(values, kind), kind), dtype)
    assert (back[expected == 0] == 0).all()
    assert (np.sign(back) * np.sign(expected) >= 0)[~np.isnan(expected)].all()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_that_is_tiny_beside_the_largest_does_not_become_zero(sign: int) -> None:
    values = np.array([[1e-12, 0.0, 1.0]], np.float32) * np.float32(sign)
    kind = column_type("float32")
    back = Power(bits=3).decode(*Power(bits=3).encode(values, kind), kind)
    assert np.sign(back).tolist() == [[sign, 0, sign]]


def test_a_constant_comes_back_exactly() -> None:
    values, kind = np.full((1, 100), 0.1), column_type("float64")
    assert (Power().decode(*Power().encode(values, kind), kind) == values).all()


def test_more_bits_state_a_smaller_bound() -> None:
    values, kind = np.linspace(-4, 9, 50)[None], column_type("float64")
    bounds = [Power(bits).max_abs_error(Power(bits).encode(values, kind)[1][None], kind) for bits in range(3, 9)]
    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == len(bounds)


def test_the_bound_is_not_far_above_the_worst_error() -> None:
    values, kind = np.linspace(0, 1, 100_001)[None], column_type("float64")
    cells, params = Power().encode(values, kind)
    worst = np.abs(Power().decode(cells, params, kind) - values).max()
    assert worst <= Power().max_abs_error(params[None], kind) <= 1.1 * worst


@pytest.mark.parametrize("bits", [2, 9, 0, -1, 5.5])
def test_a_number_of_bits_out_of_range_is_refused(bits: float) -> None:
    with pytest.raises(ValueError, match="expected 3 to 8, got"):
        Power(bits)  # type: ignore[arg-type]
