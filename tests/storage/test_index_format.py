"""docs/format.md is true to the bytes of indexes and tallies: a reader that knows nothing else reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mistique
from mistique.codecs import KBit, Power
from mistique.planner.index_bounds import read_bounds
from mistique.planner.index_layout import IndexPlaces
from mistique.store import Store
from tests.capturing import put_layer
from tests.planner.test_index import activations, values_by_road
from tests.planner.test_tallies import keeps, maps
from tests.reference.index_reader import IndexReader
from tests.reference.store_reader import StoreReader

OF = {"model": "lab/model", "dataset": "train", "name": "layer"}
KEY = "lab/model@1/train/layer"


def indexed(store: Store, values: np.ndarray, *, form: str, **options: Any) -> IndexReader:
    """Another program's reader of the index of a layer."""
    put_layer(store, values, codec=options.pop("codec", "raw"))
    assert mistique.index(store, KEY, **{"max_share": 3.0, **options}).form == form
    return IndexReader(StoreReader(store.uri), **OF)


@pytest.mark.parametrize("codec", [Power(bits=5), KBit(bits=4)], ids=repr)
@pytest.mark.parametrize("shape", [(2500, 70), (1100, 2, 2, 40), (33_000, 3)], ids=str)
def test_another_program_reads_an_index_of_codes(store: Store, shape: tuple[int, ...], codec: Any) -> None:
    reader = indexed(store, activations(shape[0], shape[1:]), form="codes", codec=codec)
    assert len(reader._spans) == -(-shape[0] // 32_768)
    _, expected = StoreReader(store.uri).intermediate(**OF)
    assert np.array_equal(reader.values(), expected, equal_nan=True)
    columns = np.array([0, 2])
    ours, _ = values_by_road(store, KEY, lambda candidate: candidate.is_index, columns=columns)
    assert np.allclose(reader.values()[columns].T, ours.to_numpy().reshape(shape[0], -1), rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16], ids=lambda dtype: np.dtype(dtype).name)
def test_another_program_reads_an_index_of_cells(store: Store, dtype: Any) -> None:
    values = np.nan_to_num(activations(2500, (2, 2, 9))).clip(-99, 99).astype(dtype)
    found = indexed(store, values, form="cells").values()
    assert found.dtype == dtype
    assert np.array_equal(found.reshape(9, 2, 2, -1), np.moveaxis(values, (0, 3), (3, 0)))


@pytest.mark.parametrize("side", [8, 17])
def test_another_program_reads_an_index_of_maxima(store: Store, side: int) -> None:
    values = activations(300, (side, side, 3), seed=side)
    largest, places = indexed(store, values, form="maxima").largest()
    flat = values.reshape(300, -1, 3).transpose(2, 0, 1)
    assert np.array_equal(largest, flat.max(axis=2), equal_nan=True)
    assert np.array_equal(places, flat.argmax(axis=2))
    assert places.dtype == (np.uint8 if side == 8 else np.uint16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(4200, 70), (4200, 2, 2, 9)], ids=str)
def test_another_program_reads_an_index_of_bounds(store: Store, shape: tuple[int, ...], dtype: Any) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    values[..., 0] = np.maximum(values[..., 0], 0)  # half of it one number
    values[3, ..., 1] = np.nan  # a column of which nothing is known
    found = indexed(store, values, form="bounds", max_share=0.6).bounds()
    capture, node = store.catalog.find(KEY)
    index = store.graph(capture).indexes["layer"]
    columns = np.arange(node.n_columns)
    ours = read_bounds(store.segments, IndexPlaces.of(index, node), node, columns)
    # (n_rows, n_positions, n_units) or (n_rows, n_columns): units outermost, as columns lie.
    ours = [part.reshape(len(part), node.positions, -1).transpose(2, 1, 0).reshape(len(columns), -1) for part in ours]
    assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(found, ours, strict=True))
    sent = np.moveaxis(values.reshape(4200, node.positions, -1), 0, 2).transpose(1, 0, 2).reshape(len(columns), -1)
    lower, upper = found
    is_known = ~np.isnan(lower)
    assert (is_known.sum(axis=1) < 4200).sum() == node.positions
    assert (lower <= sent)[is_known].all()
    assert (sent <= upper)[is_known].all()
    assert (lower == upper).any(axis=1)[:: node.positions].any()


def test_another_program_reads_what_was_counted(store: Store) -> None:
    values = maps()
    put_layer(store, values, codec="raw")
    groups = np.arange(len(values)) % 3
    mistique.dead_units(keeps(store), KEY, threshold=0.5)
    means = mistique.class_means(store, KEY, by=groups)
    (counted, counts), (summed, sums) = sorted(StoreReader(store.uri).tallies(**OF).items(), reverse=True)
    assert counted == "values above 0.5"
    assert np.array_equal(counts, (values > 0.5).sum(axis=(0, 1, 2))[None])
    assert summed.startswith("sums by ")
    of_groups = np.array([values[groups == group].sum(axis=(0, 1, 2), dtype=float) for group in range(3)])
    assert np.allclose(sums[:3], of_groups, rtol=1e-6)
    assert np.array_equal(sums[3:], np.full((3, 9), 500 * 36))
    assert np.array_equal(means.values, sums[:3] / sums[3:])
