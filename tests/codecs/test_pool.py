"""Feature maps made smaller."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import Pool, Power, Raw, codec_from_config
from tests.codecs.compliance import FLOATS, CodecCompliance


class TestPool(CodecCompliance):
    codec = Pool(2, "max", inner=Power(bits=6))


@given(
    sigma=st.sampled_from([2, 4, "all"]),
    how=st.sampled_from(["mean", "max"]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    dtype=st.sampled_from(list(FLOATS)),
)
def test_pooled_values_are_those_of_numpy_and_within_the_error(
    sigma: int | str, how: str, shape: tuple[int, int, int], dtype: str
) -> None:
    rows = np.random.default_rng(1).standard_normal((3, *shape)).astype(FLOATS[dtype])
    pool = Pool(sigma, how, inner="raw")
    pooled, error = pool.summarize(rows)
    assert (pooled.shape, pooled.dtype) == ((3, *pool.stored_shape(shape)), rows.dtype)
    size = max(shape) if sigma == "all" else int(sigma)
    for y in range(pooled.shape[1]):
        for x in range(pooled.shape[2]):
            window = rows[:, y * size : (y + 1) * size, x * size : (x + 1) * size].astype(np.float64)
            expected = getattr(np, how)(window, axis=(1, 2))
            found = pooled[:, y, x].astype(np.float64)
            np.testing.assert_allclose(found, expected, rtol=2.0**-8 if rows.itemsize == 2 else 1e-6, atol=1e-3)
            assert np.abs(window - found[:, None, None]).max() <= error
    flat = np.moveaxis(rows, -1, 1).reshape(3, -1).astype(np.float64)
    stored = np.moveaxis(pooled, -1, 1).reshape(3, -1).astype(np.float64)
    where = pool.stored_columns(np.arange(flat.shape[1]), shape)
    assert np.abs(flat - stored[:, where]).max() <= error


@pytest.mark.parametrize("how", ["mean", "max"])
def test_nan_makes_its_window_nan_and_no_other(how: str) -> None:
    rows = np.ones((1, 4, 4, 1), np.float32)
    rows[0, 1, 0, 0] = np.nan
    pooled, _ = Pool(2, how).summarize(rows)
    assert np.isnan(pooled).reshape(-1).tolist() == [True, False, False, False]


def test_it_takes_feature_maps_alone() -> None:
    assert Pool().applies_to_shape((4, 4, 3))
    assert not any(Pool().applies_to_shape(shape) for shape in [(), (5,), (7, 8), (2, 2, 2, 2)])


def test_its_inner_codec_may_be_named_or_described() -> None:
    assert isinstance(Pool(inner="raw").inner, Raw)
    assert codec_from_config(Pool(4, "max", inner=Power(7)).config()) == Pool(4, "max", inner=Power(7))


@pytest.mark.parametrize("wrong", [{"sigma": 3}, {"how": "median"}, {"inner": Pool()}])
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="of the pool codec: expected"):
        Pool(**wrong)  # type: ignore[arg-type]
