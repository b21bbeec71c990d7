"""What every codec must do. A codec is tested by a class that inherits this one and names it."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistique.codecs import Codec, codec_from_config
from mistique.schema import ColumnType

FLOATS = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
SHAPES = [(1, 0), (1, 1), (1, 31), (3, 7), (2, 64)]


def column_type(dtype: str) -> ColumnType:
    """The type of a column of floats: 16-bit ones are kept as their bits."""
    return ColumnType(dtype, "<u2" if dtype in ("float16", "bfloat16") else FLOATS[dtype].str)


def as_cells(values: np.ndarray) -> np.ndarray:
    """Floats as a column of that type holds them."""
    return values.view(np.uint16) if values.dtype.itemsize == 2 else values


def as_floats(cells: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that cells stand for, in float64, where all of them are exact."""
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return cells.view(FLOATS[dtype]).astype(np.float64)


@st.composite
def chunks(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    """A dtype and the cells of a chunk of it, made from bit patterns: NaN, inf and denormals come up."""
    dtype = draw(st.sampled_from(list(FLOATS)))
    bits = np.dtype(f"u{FLOATS[dtype].itemsize}")
    shape = draw(st.sampled_from(SHAPES))
    if draw(st.booleans()):
        return dtype, as_cells(draw(hnp.arrays(bits, shape)).view(FLOATS[dtype]))
    plain = draw(hnp.arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=16)))
    return dtype, as_cells(plain.astype(FLOATS[dtype]))


# The subclasses share these functions, each with a codec of its own; without a database no example of one is
# replayed on another.
_shared = settings(suppress_health_check=[HealthCheck.differing_executors], database=None)


class CodecCompliance:
    """Laws of the seam `mistique.codecs.Codec`, for one codec with one choice of parameters."""

    codec: Codec

    @_shared
    @given(chunks())
    def test_every_finite_value_comes_back_within_the_stated_bound(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        cells, params = self.codec.encode(values, kind)
        back = as_floats(self.codec.decode(cells, params, kind), dtype)
        expected = as_floats(values, dtype)
        bound = self.codec.max_abs_error(params[None], kind)
        assert bound >= 0
        finite = np.isfinite(expected)
        # Against the true difference: that of two doubles near their largest has no double.
        error = [abs(int_or_float(a) - int_or_float(b)) for a, b in zip(back[finite], expected[finite], strict=True)]
        assert max(error, default=0) <= bound

    @_shared
    @given(chunks())
    def test_nan_and_infinities_come_back_as_they_were(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        back = as_floats(self.codec.decode(*self.codec.encode(values, kind), kind), dtype)
        expected = as_floats(values, dtype)
        special = ~np.isfinite(expected)
        np.testing.assert_array_equal(back[special], expected[special])
        assert np.isfinite(back[~special]).all()

    @_shared
    @given(chunks())
    def test_equal_values_give_equal_cells_and_params(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        first, second = self.codec.encode(values.copy(), kind), self.codec.encode(values.copy(), kind)
        assert first[0].tobytes() == second[0].tobytes()
        assert first[1].tobytes() == second[1].tobytes()

    @_shared
    @given(chunks())
    def test_cells_and_values_have_the_promised_dtype_and_shape(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        cells, params = self.codec.encode(values, kind)
        assert (cells.dtype, cells.shape) == (self.codec.cell_dtype(kind), values.shape)
        assert (params.dtype, params.shape) == (np.dtype(np.float64), (self.codec.n_params,))
        back = self.codec.decode(cells, params, kind)
        assert (back.dtype, back.shape) == (values.dtype, values.shape)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_what_it_is_given_is_left_as_it_was(self, dtype: str) -> None:
        values = as_cells(np.linspace(-3, 5, 24).astype(FLOATS[dtype]).reshape(2, 12))
        before = values.copy()
        values.flags.writeable = False
        cells, params = self.codec.encode(values, column_type(dtype))
        self.codec.decode(cells, params, column_type(dtype))
        assert values.tobytes() == before.tobytes()

    def test_the_bound_of_no_chunk_is_zero(self) -> None:
        assert self.codec.max_abs_error(np.empty((0, self.codec.n_params)), column_type("float32")) == 0.0

    def test_the_bound_of_several_chunks_is_that_of_the_worst(self) -> None:
        kind = column_type("float32")
        params = [self.codec.encode(np.full((1, 4), v, np.float32), kind)[1] for v in (1.0, 9.0, 2.0)]
        alone = [self.codec.max_abs_error(p[None], kind) for p in params]
        assert self.codec.max_abs_error(np.stack(params), kind) == max(alone)

    def test_its_config_makes_it_again_even_through_json(self) -> None:
        config = json.loads(json.dumps(self.codec.config()))
        again = codec_from_config(config)
        assert type(again) is type(self.codec)
        assert again.config() == self.codec.config()

    def test_it_says_whether_it_is_lossy(self) -> None:
        values = np.linspace(0.1, 77.7, 999, dtype=np.float32)[None]
        kind = column_type("float32")
        back = self.codec.decode(*self.codec.encode(values, kind), kind)
        assert (back.tobytes() != values.tobytes()) == self.codec.is_lossy

    def test_a_lossy_codec_takes_floats_without_nulls_alone(self) -> None:
        others = [
            ColumnType("int64", "<i8"),
            ColumnType("bool", "|u1"),
            ColumnType("str", "<U0"),
            ColumnType("Float32", "<f4", True),
            ColumnType("category[str]", "|i1"),
        ]
        assert self.codec.applies_to(column_type("float32"))
        assert [self.codec.applies_to(kind) for kind in others] == [not self.codec.is_lossy] * len(others)


def int_or_float(number: np.float64) -> int | float:
    """A number whose differences do not overflow: large doubles are integers, and Python's have no end."""
    return int(number) if abs(number) > 2.0**60 else float(number)
