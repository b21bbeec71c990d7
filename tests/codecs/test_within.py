"""Bounds that are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import Raw, within
from tests.codecs.compliance import CodecCompliance, as_floats, big_chunk, chunks, column_type, round_trip

FLOAT32 = column_type("float32")


class TestWithinAbsolute(CodecCompliance):
    codec = within(absolute=0.05)


class TestWithinRelative(CodecCompliance):
    codec = within(relative=1e-2)


class TestWithinBoth(CodecCompliance):
    codec = within(relative=1e-1, absolute=1.0)


BOUNDS = st.floats(1e-9, 1e3)


@given(chunk=chunks(), relative=st.none() | BOUNDS, absolute=st.none() | BOUNDS)
def test_every_value_is_within_what_was_asked(
    chunk: tuple[str, np.ndarray], relative: float | None, absolute: float | None
) -> None:
    if relative is None and absolute is None:
        relative = 0.5
    dtype, values = chunk
    back = as_floats(round_trip(within(relative=relative, absolute=absolute), values, column_type(dtype)), dtype)
    expected = as_floats(values, dtype)
    finite = np.isfinite(expected)
    with np.errstate(over="ignore"):
        error = np.abs(back[finite] - expected[finite])
        assert absolute is None or (error <= absolute).all()
        assert relative is None or (error <= relative * np.abs(expected[finite])).all()


@pytest.mark.parametrize("bound", [{"absolute": 0.05}, {"relative": 0.01}, {"relative": 1e-4}])
def test_a_layer_takes_fewer_bytes_the_wider_the_bound(bound: dict[str, float]) -> None:
    values = big_chunk("float32", (64, 1024))
    wider = {key: value * 8 for key, value in bound.items()}
    sizes = [within(**bound).encode(values, FLOAT32).size for bound in (wider, bound)]
    assert sizes[0] < sizes[1] < Raw().encode(values, FLOAT32).size


@pytest.mark.parametrize("wrong", [{}, {"relative": 0}, {"absolute": -1}, {"absolute": np.inf}, {"relative": np.nan}])
def test_a_bound_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive numbers, got"):
        within(**wrong)
