"""A column is its numbers and its values, bit for bit; what is a one-to-one image of it has the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mistique
from mistique.dedup.dictionary import numbered
from mistique.store import Store
from tests.capturing import capturing, put, references_of

ROOMS = np.random.default_rng(0).integers(1, 12, 20_000).astype(float)


@given(st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, float("nan")]), min_size=64, max_size=300))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_values_are_the_column_bit_for_bit(dtype: type, values: list[float]) -> None:
    cells = np.array(values, dtype)
    taken = numbered(cells)
    assert taken is not None
    assert taken.values[taken.numbers].tobytes() == cells.tobytes()


def test_a_scaled_column_adds_its_values_alone(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("rooms", ROOMS)
        capture.add("scaled", (ROOMS - ROOMS.mean()) / ROOMS.std())
    first, second = (references_of(store, f"lab/model@1/train/{name}") for name in ("rooms", "scaled"))
    assert [run.unit for run in first.runs] == [run.unit for run in second.runs]
    nodes = store.catalog.find("lab/model@1/train/scaled")[0].intermediates
    assert nodes["scaled"].stored_nbytes < nodes["rooms"].stored_nbytes / 5


def test_some_rows_of_a_numbered_column_come_back(store: Store) -> None:
    key = put(store, ROOMS)
    assert len(references_of(store, key).dictionaries) == 1
    rows = [19_999, 0, 7]
    assert mistique.get(store, key, rows=rows).values.tolist() == ROOMS[rows].tolist()


def test_numbers_that_another_process_stored_are_found_by_a_new_image_of_them(store: Store) -> None:
    put(store, ROOMS)
    again = mistique.open(store.uri)
    key = put(again, np.log(ROOMS))
    assert {segment.id for segment in references_of(again, key).segments} > {
        segment.id for segment in references_of(again, "lab/model@1/train/stage").segments
    }
    assert mistique.get(again, key).values.tobytes() == np.log(ROOMS).tobytes()
