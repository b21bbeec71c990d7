"""One bit a value."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs import Threshold
from tests.codecs.compliance import FLOATS, CodecCompliance, as_cells, as_floats, big_chunk, column_type, round_trip

FLOAT32 = column_type("float32")


class TestThreshold(CodecCompliance):
    codec = Threshold()

    def test_nan_and_infinities_come_back_as_they_were(self) -> None:  # type: ignore[override]
        """They do not: bits come back."""
        values = np.array([[np.nan, np.inf, -np.inf, 0, 1, 2, 3, 4]], np.float32)
        assert round_trip(Threshold(0.2), values, FLOAT32).tolist() == [[0, 1, 0, 0, 0, 0, 0, 0]]


@given(alpha=st.floats(0.001, 0.9), positions=st.integers(1, 10), seed=st.integers(0, 99))
def test_at_most_the_share_of_each_unit_is_above_its_threshold(alpha: float, positions: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((9, 200)).astype(np.float32)
    codec = Threshold(alpha, positions)
    payload = codec.encode(values, FLOAT32)
    back, thresholds = codec.decode(payload, values.shape, FLOAT32), codec.thresholds(payload)
    for number, threshold in enumerate(thresholds):
        unit = slice(number * positions, (number + 1) * positions)
        assert (back[unit] == (values[unit] > threshold)).all()
        assert np.floor(alpha * values[unit].size + 1e-9) - 1 <= back[unit].sum() <= alpha * values[unit].size + 1e-9
    assert len(thresholds) == -(-9 // positions)


@pytest.mark.parametrize("group_columns", [12, 6, 2, 5])
def test_a_block_is_encoded_as_its_chunks_are_where_they_hold_whole_units(group_columns: int) -> None:
    block = np.random.default_rng(0).standard_normal((50, 6, 4)).astype(np.float32)
    codec = Threshold(0.1, positions=6)
    columns = np.ascontiguousarray(block.transpose(2, 1, 0)).reshape(24, 50)
    whole = codec.decode(codec.encode(columns, FLOAT32), (24, 50), FLOAT32)
    found = codec.encode_block([block[:20], block[20:]], FLOAT32, group_columns=group_columns)
    assert found is not None
    chunks = [codec.decode(payload, shape, FLOAT32) for shape, payload in found]
    assert [len(chunk) for chunk in chunks[:-1]] == [group_columns] * (len(chunks) - 1)
    assert (np.concatenate(chunks) == whole).all()


def test_a_block_of_other_positions_is_left_to_its_chunks() -> None:
    assert Threshold(positions=3).encode_block([np.zeros((5, 6, 4), np.float32)], FLOAT32, group_columns=6) is None


@pytest.mark.parametrize("dtype", FLOATS)
def test_bits_come_back_in_the_type_of_the_column(dtype: str) -> None:
    cells = as_cells(big_chunk(dtype, (4, 300)))
    assert set(as_floats(round_trip(Threshold(0.1), cells, column_type(dtype)), dtype).reshape(-1)) == {0.0, 1.0}


def test_a_constant_and_a_unit_of_nan_are_never_above() -> None:
    values = np.array([[3.0] * 50, [np.nan] * 50], np.float32)
    payload = Threshold().encode(values, FLOAT32)
    assert not Threshold().decode(payload, (2, 50), FLOAT32).any()
    assert Threshold().thresholds(payload).tolist() == [3.0, inf]


@pytest.mark.parametrize("alpha", [0, 1, -0.1, np.nan])
def test_a_share_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Threshold(alpha)
