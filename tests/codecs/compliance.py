"""What every codec must do. A codec is tested by a class that inherits this one and names it."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistique.codecs import ALL, Codec, CodedCodec, PartCodec, codec_from_config
from mistique.errors import ChunkCorruptError
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


def big_chunk(dtype: str, shape: tuple[int, int]) -> np.ndarray:
    """Like a layer's output: smooth along the columns, half of it zero, some of it negative."""
    columns, rows = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows * 0.7) * 3 + np.cos(columns * 0.2 + rows) + np.sin(rows * columns * 1.7) * 0.1
    return np.where(waves > -1, waves, 0).astype(FLOATS[dtype])


# The subclasses share these functions, each with a codec of its own; without a database no example of one is
# replayed on another.
_shared = settings(suppress_health_check=[HealthCheck.differing_executors], database=None)


def round_trip(codec: Codec, values: np.ndarray, kind: ColumnType) -> np.ndarray:
    """What comes back of a chunk."""
    return codec.decode(codec.encode(values, kind), values.shape, kind)


class CodecCompliance:
    """Laws of the seam `mistique.codecs.Codec`, for one codec with one choice of parameters."""

    codec: Codec

    @_shared
    @given(chunks())
    def test_every_finite_value_comes_back_within_the_stated_bound(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        payload = self.codec.encode(values, kind)
        back = as_floats(self.codec.decode(payload, values.shape, kind), dtype)
        expected = as_floats(values, dtype)
        bound = self.codec.max_abs_error(payload, kind)
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
        back = as_floats(round_trip(self.codec, values, kind), dtype)
        expected = as_floats(values, dtype)
        special = ~np.isfinite(expected)
        np.testing.assert_array_equal(back[special], expected[special])
        assert np.isfinite(back[~special]).all()

    @_shared
    @given(chunks())
    def test_equal_values_give_equal_payloads(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        first, second = self.codec.encode(values.copy(), kind), self.codec.encode(values.copy(), kind)
        assert first.tobytes() == second.tobytes()

    @_shared
    @given(chunks())
    def test_payloads_and_values_have_the_promised_dtype_and_shape(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        payload = self.codec.encode(values, kind)
        assert (payload.dtype, payload.ndim, payload.flags.c_contiguous) == (np.dtype(np.uint8), 1, True)
        back = self.codec.decode(payload, values.shape, kind)
        assert (back.dtype, back.shape) == (values.dtype, values.shape)

    @_shared
    @given(chunks())
    def test_codes_and_what_they_stand_for_are_the_values(self, chunk: tuple[str, np.ndarray]) -> None:
        dtype, values = chunk
        kind = column_type(dtype)
        payload = self.codec.encode(values, kind)
        if not isinstance(self.codec, CodedCodec):
            return
        found = self.codec.codes_of(payload, values.shape)
        if found is None:
            return
        codes, head = found
        n_columns = len(values)
        tables = [
            self.codec.tables_of([head], column=column, n_columns=n_columns, column_type=kind)[0]
            for column in range(n_columns)
        ]
        cut = np.array([table[line] for table, line in zip(tables, codes, strict=True)])
        assert cut.tobytes() == self.codec.decode(payload, values.shape, kind).tobytes()

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("shape", [(2, 12), (64, 1024)])
    def test_what_it_is_given_is_left_as_it_was(self, dtype: str, shape: tuple[int, int]) -> None:
        values = as_cells(big_chunk(dtype, shape))
        before = values.copy()
        values.flags.writeable = False
        payload = self.codec.encode(values, column_type(dtype))
        payload.flags.writeable = False
        back = self.codec.decode(payload, values.shape, column_type(dtype))
        assert values.tobytes() == before.tobytes()
        assert not np.shares_memory(back, values)

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("scale", [-5.0, 0.0, 100.0])
    def test_a_chunk_of_a_layer_comes_back_within_the_bound(self, dtype: str, scale: float) -> None:
        """As large as a layer's chunk: the entropy stage and the tables are at work."""
        kind = column_type(dtype)
        values = as_cells((big_chunk(dtype, (64, 1024)).astype(np.float64) * scale).astype(FLOATS[dtype]))
        payload = self.codec.encode(values, kind)
        back = as_floats(self.codec.decode(payload, values.shape, kind), dtype)
        assert np.abs(back - as_floats(values, dtype)).max() <= self.codec.max_abs_error(payload, kind)

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("n_rows", [40, 1024])
    def test_a_damaged_payload_is_an_error_of_ours_or_values_of_the_shape(self, dtype: str, n_rows: int) -> None:
        kind, rng = column_type(dtype), np.random.default_rng(3)
        values = as_cells(big_chunk(dtype, (8, n_rows)))
        payload = self.codec.encode(values, kind)
        for attempt in range(150):
            broken = payload.copy()
            if attempt % 3 == 0:
                broken = broken[: rng.integers(0, payload.size)]
            else:
                # The header and the tables are where a wrong byte does the most.
                end = min(payload.size, 60) if attempt % 3 == 1 else payload.size
                broken[rng.integers(0, end, 2)] = rng.integers(0, 256, 2)
            try:
                back = self.codec.decode(broken, values.shape, kind)
            except (ChunkCorruptError, ValueError):
                continue
            assert (back.dtype, back.shape) == (values.dtype, values.shape)

    def test_a_payload_of_another_shape_is_refused(self) -> None:
        kind = column_type("float32")
        values = big_chunk("float32", (8, 1024))
        with pytest.raises((ChunkCorruptError, ValueError)):
            self.codec.decode(self.codec.encode(values, kind), (8, 1023), kind)

    def test_its_config_makes_it_again_even_through_json(self) -> None:
        config = json.loads(json.dumps(self.codec.config()))
        again = codec_from_config(config)
        assert type(again) is type(self.codec)
        assert again.config() == self.codec.config()

    def test_it_says_whether_it_is_lossy(self) -> None:
        values = np.linspace(0.1, 77.7, 999, dtype=np.float32)[None]
        kind = column_type("float32")
        back = round_trip(self.codec, values, kind)
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

    def test_a_part_is_what_it_is_in_the_whole(self) -> None:
        if not isinstance(self.codec, PartCodec):
            return
        for dtype in FLOATS:
            kind, values = column_type(dtype), as_cells(big_chunk(dtype, (24, 900)))
            payload = self.codec.encode(values, kind)
            whole = self.codec.decode(payload, values.shape, kind)
            for columns in (np.array([0]), np.array([2, 3, 17]), np.array([23]), np.arange(24), ALL):
                for rows in (ALL, slice(340, 342), slice(0, 400), np.array([0, 341, 342, 899])):
                    found = self.codec.decode_part(payload, values.shape, kind, columns=columns, rows=rows)
                    assert found.tobytes() == whole[columns][:, rows].tobytes()
                    # Beside what others wrote, if the codec takes it; a place that does not fit is never taken.
                    room = np.zeros((found.shape[0], found.shape[1] + 2), found.dtype)
                    options = {"columns": columns, "rows": rows}
                    there = self.codec.decode_part(payload, values.shape, kind, out=room[:, 1:-1], **options)
                    assert there.tobytes() == found.tobytes()
                    assert not room[:, [0, -1]].any()
                    small = np.zeros((1, 1), found.dtype)
                    there = self.codec.decode_part(payload, values.shape, kind, out=small, **options)
                    assert there.tobytes() == found.tobytes()


def int_or_float(number: np.float64) -> int | float:
    """A number whose differences do not overflow: large doubles are integers, and Python's have no end."""
    return int(number) if abs(number) > 2.0**60 else float(number)
