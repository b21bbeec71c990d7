"""Codes by quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import KBit
from tests.codecs.compliance import CodecCompliance, column_type, round_trip

FLOAT32 = column_type("float32")


class TestKBit1(CodecCompliance):
    codec = KBit(bits=1)


class TestKBit3(CodecCompliance):
    codec = KBit(bits=3)


class TestKBit8(CodecCompliance):
    codec = KBit()


@given(bits=st.integers(1, 8), seed=st.integers(0, 99))
def test_codes_hold_about_equally_many_values(bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=(8, 2000)).astype(np.float32)
    back = round_trip(KBit(bits), values, FLOAT32)
    _, counts = np.unique(back, return_counts=True)
    widest_bin = np.unique(values.view(np.uint32) >> 16, return_counts=True)[1].max()
    assert len(counts) <= 2**bits
    assert counts.max() <= values.size / min(2**bits, 251) + widest_bin


@given(bits=st.integers(1, 8), seed=st.integers(0, 99))
def test_order_and_sign_are_kept(bits: int, seed: int) -> None:
    values = np.sort(np.random.default_rng(seed).standard_normal((1, 3000)).astype(np.float32))
    back = round_trip(KBit(bits), values, FLOAT32)
    assert (np.diff(back) >= 0).all()
    assert (np.sign(back) == np.sign(values)).all()


def test_nan_that_begins_like_infinity_is_still_nan() -> None:
    patterns = np.array([[0x7F800001, 0x7F800000, 0xFF800000, 0xFF800001]], np.uint32)
    back = round_trip(KBit(), patterns.view(np.float32), FLOAT32)
    assert np.isnan(back).tolist() == [[True, False, False, True]]
    assert back[0, 1:3].tolist() == [np.inf, -np.inf]


def test_doubles_beyond_float32_are_kept_exactly() -> None:
    values = np.array([[1e300, 1.0, -0.0]])
    assert round_trip(KBit(), values, column_type("float64")).tobytes() == values.tobytes()


@pytest.mark.parametrize("bits", [0, 9, 2.5])
def test_a_number_of_bits_out_of_range_is_refused(bits: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8, got"):
        KBit(bits)  # type: ignore[arg-type]
