"""A read answer equals NumPy's, for any rows and columns in any order, of any shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mistique
from mistique.errors import ChunkCorruptError
from mistique.planner.execute import execute
from mistique.planner.reading import read
from mistique.queries.selection import find
from mistique.schema import Intermediate
from mistique.storage.segments import SegmentReader
from mistique.store import Store
from tests.capturing import put, put_layer

SHAPES = [(3,), (70,), (5, 4), (4, 3, 5), (1, 1, 2), (8, 8, 3)]
N_ROWS = 1100
few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for every example of a module."""
    with mistique.open(tmp_path_factory.mktemp("read") / "s.mistique") as store:
        yield store


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def layer(request: pytest.FixtureRequest, shared: Store) -> tuple[np.ndarray, str, str]:
    """Values of a layer, and the keys of their exact and their quantized capture."""
    values = np.random.default_rng(0).normal(size=(N_ROWS, *request.param)).astype(np.float32)
    values[::7] = np.maximum(values[::7], 0)
    model = f"lab/net{SHAPES.index(request.param)}"
    return (
        values,
        put_layer(shared, values, model=model, batch_rows=256),
        put_layer(shared, values, model=model, codec="power"),
    )


ROWS = st.lists(st.integers(0, N_ROWS - 1), min_size=1, max_size=15)


@few
@given(rows=ROWS)
def test_rows_in_any_order_and_repeated(layer: tuple, shared: Store, rows: list[int]) -> None:
    values, key, coded_key = layer
    assert mistique.get(shared, key, rows=rows).values.tobytes() == values[rows].tobytes()
    coded = mistique.get(shared, coded_key, rows=rows)
    assert coded.values.shape == values[rows].shape
    assert np.abs(coded.values - values[rows]).max() <= coded.max_abs_error


@few
@given(rows=ROWS, data=st.data())
def test_units_in_any_order_and_repeated(layer: tuple, shared: Store, rows: list[int], data: st.DataObject) -> None:
    values, key, coded_key = layer
    units = data.draw(st.lists(st.integers(0, values.shape[-1] - 1), min_size=1, max_size=4))
    expected = values[rows][..., units]
    assert mistique.get(shared, key, rows=rows, unit=units).values.tobytes() == np.ascontiguousarray(expected).tobytes()
    coded = mistique.get(shared, coded_key, rows=rows, unit=units)
    assert np.abs(coded.values - expected).max() <= coded.max_abs_error


@few
@given(rows=ROWS, data=st.data())
def test_columns_in_any_order_and_repeated(layer: tuple, shared: Store, rows: list[int], data: st.DataObject) -> None:
    values, key, _ = layer
    # Columns are numbered unit by unit, the positions of a unit side by side.
    table = np.moveaxis(values, -1, 1).reshape(N_ROWS, -1)
    columns = data.draw(st.lists(st.integers(0, table.shape[1] - 1), min_size=1, max_size=5))
    answer = mistique.get(shared, key, rows=rows, columns=columns)
    expected = table[np.ix_(rows, columns)]
    assert answer.values.reshape(len(rows), -1).tobytes() == expected.tobytes()
    assert answer.to_frame().to_numpy().tobytes() == expected.tobytes()


@few
@given(rows=ROWS, data=st.data())
def test_columns_that_lie_together_are_the_same(
    layer: tuple, shared: Store, rows: list[int], data: st.DataObject
) -> None:
    _, key, _ = layer
    capture, node = shared.catalog.find(key)
    columns = data.draw(st.none() | st.lists(st.integers(0, node.n_columns - 1), min_size=1, max_size=5, unique=True))
    asked = {"rows": np.array(rows), "columns": None if columns is None else np.array(sorted(columns))}
    by_row, _ = execute(shared, capture, node, **asked)
    found, _ = execute(shared, capture, node, by_column=True, **asked)
    assert np.array_equal(found.parts, by_row.parts)
    assert np.array_equal(found.by_column(), by_row.by_column())


def test_the_whole_of_a_layer(layer: tuple, shared: Store) -> None:
    values, key, coded_key = layer
    whole, coded = mistique.get(shared, key), mistique.get(shared, coded_key)
    assert whole.values.tobytes() == values.tobytes()
    assert whole.max_abs_error == 0.0
    error = np.abs(coded.values - values).max()
    assert 0 < error <= coded.max_abs_error
    assert ((coded.values == 0) == (values == 0)).all()


def test_an_exact_answer_is_never_a_quantized_one(layer: tuple, shared: Store) -> None:
    with pytest.raises(mistique.errors.NoPlanError):
        mistique.get(shared, layer[2], exact=True)


@pytest.mark.parametrize(
    "what", [slice(None), slice(5, 1100), slice(-3, None), slice(None, None, -100), slice(0, 0)], ids=str
)
def test_a_slice_of_rows_is_that_of_numpy(layer: tuple, shared: Store, what: slice) -> None:
    values, key, _ = layer
    assert mistique.get(shared, key, rows=what).values.tobytes() == np.ascontiguousarray(values[what]).tobytes()


@few
@given(data=st.data(), rows=st.lists(st.integers(0, 2049), min_size=1, max_size=10))
def test_a_table_by_rows_and_columns(shared: Store, rows: list[int], data: st.DataObject) -> None:
    values = np.random.default_rng(1).normal(size=(2050, 9))
    key = "lab/table@1/train/stage"
    if not any(c.version.model == "lab/table" for c in shared.catalog.captures()):
        put(shared, values, model="lab/table")
    columns = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=4))
    found = mistique.get(shared, key, rows=rows, columns=columns).values
    assert found.tobytes() == values[np.ix_(rows, columns)].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_quantized_layer_of_another_float_keeps_its_bound_and_dtype(store: Store, dtype: type) -> None:
    values = np.random.default_rng(2).normal(size=(300, 20)).astype(dtype)
    answer = mistique.get(store, put_layer(store, values, codec="power"))
    assert answer.values.dtype == values.dtype
    error = np.abs(answer.values.astype(np.float64) - values.astype(np.float64)).max()
    assert 0 < error <= answer.max_abs_error


def test_a_wide_layer_is_cut_into_shorter_blocks_and_comes_back(store: Store) -> None:
    values = np.arange(130 * 66_000, dtype=np.float32).reshape(130, 66_000)
    key = put_layer(store, values, batch_rows=50)
    node: Intermediate = store.catalog.find(key)[1]
    assert (node.block_rows, node.n_blocks) == (64, 3)
    assert mistique.get(store, key, rows=[129, 63, 64]).values.tobytes() == values[[129, 63, 64]].tobytes()


@pytest.mark.parametrize(
    ("what", "are_quick"),
    [({}, {False}), ({"rows": slice(0, 64)}, {False}), ({"rows": [3, 100]}, {True}), ({"columns": [7]}, {True})],
)
def test_low_blocks_of_a_wide_layer_are_decoded_on_all_threads_and_single_rows_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: dict[str, Any], are_quick: set[bool]
) -> None:
    values = np.random.default_rng(0).normal(size=(130, 66_000)).astype(np.float32)
    key, found, spread = put_layer(store, values, codec="power"), set[bool](), SegmentReader.spread

    def noted(self: SegmentReader, *arguments: Any, **options: Any) -> Any:
        found.add(options["is_quick"])
        return spread(self, *arguments, **options)

    monkeypatch.setattr(SegmentReader, "spread", noted)
    mistique.get(store, key, **what)
    assert found == are_quick


def test_a_small_part_is_read_in_fewer_bytes_than_the_whole(store: Store) -> None:
    key = put_layer(store, np.random.default_rng(0).normal(size=(5000, 256)).astype(np.float32), batch_rows=1000)
    part, whole = (
        mistique.get(store, key, **what).plan.chosen.predicted_nbytes for what in ({"rows": [3], "unit": 5}, {})
    )
    assert 0 < part < whole / 10


def test_a_flipped_byte_is_noticed_among_chunks_that_are_decoded_together(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(N_ROWS, 8, 8, 3)).astype(np.float32)
    capture, node = find(store, put_layer(store, values, codec=mistique.codecs.Power(8)))
    node = store.graph(capture).nodes[node.name]
    columns = np.arange(node.n_columns)
    right, _ = read(store.segments, node, np.arange(N_ROWS), columns, by_column=True)
    assert node.references is not None
    (segment,) = node.references.segments
    table = store.segments.table(segment)
    assert table.n_units > 4
    unit = table.n_units // 2
    (path,) = sorted((Path(store.uri) / "segments" / segment.id).rglob("a0.tdb"))
    content = path.read_bytes()
    (payload,) = next(iter(store.segments.payloads(segment, np.array([unit]))))[1]
    at = content.index(payload.tobytes()) + len(payload) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with (
        mistique.open(store.uri, mode="r") as again,
        pytest.raises(ChunkCorruptError, match=f"segment {segment.id}, unit {unit}: expected digest"),
    ):
        read(again.segments, node, np.arange(N_ROWS), columns, by_column=True)
    path.write_bytes(content)
    with mistique.open(store.uri, mode="r") as again:
        found, _ = read(again.segments, node, np.arange(N_ROWS), columns, by_column=True)
    assert found.by_column().tobytes() == right.by_column().tobytes()
