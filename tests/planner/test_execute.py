"""What is read is what was captured, for any rows and columns."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mistique
from mistique.codecs import Power
from mistique.planner.execute import execute
from tests.capturing import put, put_layer

SHAPES = [(), (1,), (7,), (130,), (3, 5), (4, 4, 3), (9, 9, 5)]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("codec", ["raw", Power(bits=6)])
def test_any_rows_and_columns_of_a_layer_are_those_of_numpy(codec: Any, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    n_rows = data.draw(st.sampled_from([1, 5, 1023, 1024, 1025, 2100]))
    values = np.random.default_rng(data.draw(st.integers(0, 9))).standard_normal((n_rows, *shape)).astype(np.float32)
    flat = values.reshape(n_rows, -1, shape[-1] if shape else 1).transpose(2, 1, 0).reshape(-1, n_rows)
    rows = data.draw(st.none() | st.lists(st.integers(0, n_rows - 1), min_size=1, max_size=20))
    columns = data.draw(st.none() | st.lists(st.integers(0, len(flat) - 1), min_size=1, max_size=9))
    with tempfile.TemporaryDirectory() as folder, mistique.open(f"{folder}/s") as store:
        key = put_layer(store, values, codec=codec, batch_rows=300)
        capture, intermediate = store.catalog.find(key)
        found, plan = execute(
            store,
            capture,
            intermediate,
            rows=None if rows is None else np.array(rows),
            columns=None if columns is None else np.array(columns),
        )
    expected = flat if rows is None else flat[:, rows]
    expected = expected if columns is None else expected[columns]
    assert plan.max_abs_error is not None
    assert found.parts.shape == expected.shape  # type: ignore[union-attr]
    assert np.abs(found.parts - expected).max() <= plan.max_abs_error  # type: ignore[operator]
    assert (plan.max_abs_error == 0) == (codec == "raw")


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_rows_and_columns_of_a_table_are_those_of_numpy(data: st.DataObject) -> None:
    n_rows = data.draw(st.sampled_from([1, 900, 1024, 3000]))
    table = np.random.default_rng(0).integers(0, 50, (n_rows, 6)).astype(np.float64)
    rows = data.draw(st.lists(st.integers(0, n_rows - 1), min_size=1, max_size=20))
    columns = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    with tempfile.TemporaryDirectory() as folder, mistique.open(f"{folder}/s") as store:
        answer = mistique.get(store, put(store, table), rows=rows, columns=columns)
    assert np.array_equal(answer.values, table[np.ix_(rows, columns)])


def test_a_layer_larger_than_the_buffer_is_written_in_parts_and_read_whole(tmp_path: Any) -> None:
    values = np.random.default_rng(0).random((5000, 8, 8, 6), np.float32)
    with mistique.open(tmp_path / "s", max_buffer_nbytes=500_000) as store:
        key = put_layer(store, values, batch_rows=256)
        assert np.array_equal(mistique.get(store, key).values, values)


def test_reads_are_measured_and_the_next_process_knows(tmp_path: Any) -> None:
    with mistique.open(tmp_path / "s") as store:
        key = put(store, np.arange(100.0))
        for _ in range(3):
            mistique.get(store, key)
    with mistique.open(tmp_path / "s", mode="r") as store:
        assert store.calibration.read_cost("raw").n_observations == 3
        assert "3 reads measured" in repr(mistique.explain(store, key))
