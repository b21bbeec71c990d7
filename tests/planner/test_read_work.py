"""What a read is predicted to touch is what it touches, once the segments it lies in are open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mistique
from mistique.planner import predict
from mistique.planner.cost import ReadWork
from mistique.planner.execute import question_of
from mistique.planner.question import steps_of
from mistique.planner.read_work import decoded_values, read_work
from mistique.planner.reading import read
from mistique.schema import Intermediate, Segment
from mistique.store import Store
from tests.capturing import put, put_layer

N_ROWS = 9000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with mistique.open(tmp_path_factory.mktemp("work") / "s.mistique") as store:
        yield store


@pytest.fixture(scope="module", params=["layer", "table"])
def node(request: pytest.FixtureRequest, shared: Store) -> Intermediate:
    rng = np.random.default_rng(0)
    if request.param == "layer":
        key = put_layer(shared, rng.normal(size=(N_ROWS, 9, 24)).astype(np.float32), model="lab/net")
    else:
        # Columns that compress well and badly: a mean of them would say nothing of one.
        columns = [rng.normal(size=N_ROWS), np.arange(N_ROWS) // 100, rng.integers(0, 3, N_ROWS)] * 4
        key = put(shared, np.stack(columns, axis=1).astype(np.float64), model="lab/table")
    capture, found = shared.catalog.find(key)
    return shared.graph(capture).nodes[found.name]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_payloads_and_their_bytes_are_counted_as_they_are_read(
    shared: Store, node: Intermediate, data: st.DataObject
) -> None:
    rows = np.unique(data.draw(st.lists(st.integers(0, N_ROWS - 1), min_size=1, max_size=8)))
    columns = np.unique(data.draw(st.lists(st.integers(0, node.n_columns - 1), min_size=1, max_size=8)))
    read(shared.segments, node, rows, columns)
    taken: list[int] = []
    payloads = shared.segments.unheld_payloads

    def counted(segment: Segment, units: np.ndarray) -> Iterator[Any]:
        for found, contents in payloads(segment, units):
            taken.extend(map(len, contents))
            yield found, contents

    shared.segments.unheld_payloads = counted  # type: ignore[method-assign]
    try:
        read(shared.segments, node, rows, columns)
    finally:
        del shared.segments.unheld_payloads
    work = read_work(node, rows, columns, table_of=shared.segments.open_table)
    assert (work.n_units, work.encoded_nbytes, work.n_opened) == (len(taken), sum(taken), 0)
    assert 1 <= work.n_ranges <= work.n_units
    assert work.n_given == len(rows) * len(columns)


def test_all_columns_are_counted_alike_by_number_and_without(shared: Store, node: Intermediate) -> None:
    for rows in (np.arange(N_ROWS), np.array([3, 5000])):
        for table_of in (shared.segments.open_table, lambda _: None):
            by_number = read_work(node, rows, np.arange(node.n_columns), table_of=table_of)
            assert read_work(node, rows, None, table_of=table_of) == by_number


def test_a_segment_that_is_not_open_counts_as_its_mean_and_as_one_to_open(shared: Store, node: Intermediate) -> None:
    rows, columns = np.arange(N_ROWS), np.arange(node.n_columns)
    closed = read_work(node, rows, columns, table_of=lambda _: None)
    read(shared.segments, node, rows, columns)
    opened = read_work(node, rows, columns, table_of=shared.segments.open_table)
    assert closed.n_opened == 1
    assert opened.n_opened == 0
    assert closed.n_units == opened.n_units
    assert opened.encoded_nbytes <= closed.encoded_nbytes < 2 * opened.encoded_nbytes


def test_a_read_of_everything_is_counted_again_once_its_segment_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_opened: list[int] = []

    def counted(*asked: Any, **how: Any) -> ReadWork:
        n_opened.append(read_work(*asked, **how).n_opened)
        return read_work(*asked, **how)

    monkeypatch.setattr(predict, "read_work", counted)
    with mistique.open(tmp_path / "s.mistique") as store:
        key = put(store, np.arange(12.0).reshape(6, 2), model="lab/table")
    with mistique.open(tmp_path / "s.mistique") as store:
        capture, found = store.catalog.find(key)
        asked = question_of(store, capture, found)
        for _ in range(3):
            predict.read_seconds(asked, asked.target, asked.rows, asked.columns, store.calibration)
        assert n_opened == [1]
        read(store.segments, asked.target, asked.rows, asked.columns)
        for _ in range(3):
            predict.read_seconds(asked, asked.target, asked.rows, asked.columns, store.calibration)
        assert n_opened == [1, 0]


@pytest.mark.parametrize("is_open", [False, True])
def test_values_count_by_their_width_and_columns_of_a_table_one_by_one(tmp_path: Path, is_open: bool) -> None:
    rng = np.random.default_rng(0)
    texts = np.array([f"{i:x}" for i in rng.integers(0, 2**60, 40)], object)
    table = {"double": rng.normal(size=40), "single": rng.normal(size=40).astype(np.float32), "text": texts}
    table["byte"] = rng.integers(0, 255, 40).astype(np.uint8)
    with mistique.open(tmp_path / "s.mistique") as store:
        capture, found = store.catalog.find(put(store, pd.DataFrame(table), model="lab/mixed"))
        node = store.graph(capture).nodes[found.name]
        if is_open:
            read(store.segments, node, np.arange(40), np.arange(4))
        table_of = store.segments.open_table if is_open else lambda _: None
        works = [read_work(node, np.arange(40), np.array([i]), table_of=table_of) for i in range(4)]
        assert [work.n_cells for work in works] == [80, 40, 2400, 20]
        assert [decoded_values(node, 40, np.array([i])) for i in range(4)] == [80, 40, 2400, 20]
        assert decoded_values(node, 40) == 2540
        assert [work.n_columns for work in works] == [1, 1, 1, 1]
        assert read_work(node, np.arange(40), np.arange(4), table_of=table_of).n_columns == 4


@given(st.sets(st.integers(0, 200)), st.integers(1, 20))
def test_the_steps_that_hold_some_numbers_are_those_of_their_quotients(numbers: set[int], step: int) -> None:
    found = steps_of(np.array(sorted(numbers), np.int64), step)
    assert found.tolist() == sorted({number // step for number in numbers})
