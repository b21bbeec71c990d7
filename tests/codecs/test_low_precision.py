"""Floats of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.codecs import LowPrecision
from tests.codecs.compliance import CodecCompliance, column_type, round_trip


class TestBfloat16(CodecCompliance):
    codec = LowPrecision()


class TestFloat16(CodecCompliance):
    codec = LowPrecision("float16")


def test_a_value_that_would_overflow_keeps_its_chunk_exactly() -> None:
    values, kind = np.array([[1e6, 0.1, np.inf]], np.float32), column_type("float32")
    assert round_trip(LowPrecision("float16"), values, kind).tobytes() == values.tobytes()
    assert LowPrecision("float16").max_abs_error(LowPrecision("float16").encode(values, kind), kind) == 0


@pytest.mark.parametrize(("dtype", "same"), [("float16", np.float16), ("bfloat16", None)])
def test_values_are_rounded_as_the_type_rounds_them(dtype: str, same: type | None) -> None:
    import ml_dtypes

    values = np.random.default_rng(0).standard_normal((4, 2000)).astype(np.float32)
    expected = values.astype(same or ml_dtypes.bfloat16).astype(np.float32)
    assert (round_trip(LowPrecision(dtype), values, column_type("float32")) == expected).all()


def test_the_sign_of_zero_is_kept() -> None:
    back = round_trip(LowPrecision(), np.array([[0.0, -0.0, 1.0]]), column_type("float64"))
    assert np.signbit(back).tolist() == [[False, True, False]]
