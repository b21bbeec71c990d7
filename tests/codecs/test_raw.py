"""The exact codec."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import ALL, Raw
from mistique.errors import ChunkCorruptError
from mistique.schema import ColumnType
from tests.codecs.compliance import FLOATS, CodecCompliance, as_cells, big_chunk, chunks, column_type, round_trip

TEXT = ColumnType("str", "<U0")


class TestRaw(CodecCompliance):
    codec = Raw()


@given(chunks())
def test_every_bit_comes_back(chunk: tuple[str, np.ndarray]) -> None:
    dtype, values = chunk
    assert round_trip(Raw(), values, column_type(dtype)).tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("special", [-0.0, 5e-324, 1e-40, np.nan, -np.inf, 2.0**-20, 7.5])
def test_every_bit_of_a_layer_comes_back_with_a_special_value_in_it(dtype: str, special: float) -> None:
    values = big_chunk(dtype, (64, 1024))
    values[3, 5:900:7] = special
    bits = as_cells(values).view(f"u{values.itemsize}")
    bits[:, 1000:] |= bits[:, :24]  # signalling NaN and other patterns that no arithmetic gives
    cells = bits.view(column_type(dtype).cell)
    assert round_trip(Raw(), cells, column_type(dtype)).tobytes() == cells.tobytes()


CELLS = ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<M8[ns]", "<M8[D]", "<f4", "<f8"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(1, 0), (1, 1), (2, 16), (16, 300), (17, 40)])
@pytest.mark.parametrize("kind", ["ordered", "small", "any", "constant", "few"])
def test_cells_of_every_type_come_back_bit_by_bit(cell: str, shape: tuple[int, int], kind: str) -> None:
    rng, size = np.random.default_rng(7), shape[0] * shape[1]
    whole = {
        "ordered": np.arange(size) * 3 - 8,
        "small": rng.integers(-3, 4, size),
        "any": rng.integers(-(2**63), 2**63 - 1, size),
        "constant": np.full(size, 77),
        "few": rng.choice(np.array([-(2**62), 0, 2**62, 5]), size),
    }[kind]
    as_is = kind == "any" or cell[1] == "M"
    values = (whole.astype(f"<i{cell[2]}").view(cell) if as_is else whole.astype(cell)).reshape(shape)
    assert round_trip(Raw(), values, ColumnType("any", cell)).tobytes() == values.tobytes()


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=40), max_size=60),
    n_copies=st.integers(1, 5),
)
def test_text_comes_back(texts: list[str], n_copies: int) -> None:
    values = np.empty((1, len(texts) * n_copies), object)
    values[0] = texts * n_copies
    assert round_trip(Raw(), values, TEXT).tolist() == values.tolist()


@pytest.mark.parametrize("n_distinct", [1, 2, 300, 70_000])
def test_long_empty_and_repeated_texts_come_back(n_distinct: int) -> None:
    values = np.empty((2, 70_000), object)
    values[:] = [[f"text {i % n_distinct}" for i in range(70_000)]] * 2
    values[0, 0], values[1, 3] = "", "x" * 1_000_000
    assert (round_trip(Raw(), values, TEXT) == values).all()


def test_damaged_text_is_an_error_of_ours() -> None:
    values = np.array([["a", "bb", "a", ""] * 20], object)
    payload, rng = Raw().encode(values, TEXT), np.random.default_rng(0)
    for _ in range(300):
        broken = payload.copy()
        broken[rng.integers(0, payload.size)] = rng.integers(0, 256)
        try:
            back = Raw().decode(broken, values.shape, TEXT)
        except ChunkCorruptError:
            continue
        assert back.shape == values.shape


@pytest.mark.parametrize("share_of_zeros", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_some_columns_and_rows_of_a_layer_are_what_they_are_in_it(dtype: str, share_of_zeros: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 1024)) * (rng.random((64, 1024)) >= share_of_zeros)
    kind, cells = column_type(dtype), as_cells(values.astype(dtype))
    payload = Raw().encode(cells, kind)
    for columns in (np.array([5]), np.array([0, 63]), ALL):
        for rows in (slice(700, 701), np.array([0, 3, 1023]), ALL):
            found = Raw().decode_part(payload, cells.shape, kind, columns=columns, rows=rows)
            assert found.tobytes() == cells[columns][:, rows].tobytes()


def test_whole_numbers_take_few_bytes_whatever_their_type() -> None:
    years = (1900 + np.arange(4096) % 113)[None]
    sizes = [Raw().encode(years.astype(cell), ColumnType("any", cell)).size for cell in ("<i4", "<i8", "<f8")]
    assert max(sizes) <= 1.1 * min(sizes)


def test_ordered_numbers_are_kept_as_differences() -> None:
    minutes = np.arange(4096, dtype="<i8").view("<M8[m]")[None]
    assert Raw().encode(minutes, ColumnType("datetime64[m]", "<M8[m]")).size < 100
