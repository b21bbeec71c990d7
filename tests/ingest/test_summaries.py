"""Pooled and thresholded layers: what is stored is small, what is answered has the full shape and an honest bound."""

from __future__ import annotations

from math import inf
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mistique
from mistique.codecs import KBit, Pool, Power, Raw, Threshold, stored_form
from mistique.errors import ChunkCorruptError, NoPlanError
from mistique.schema import ColumnType, Intermediate
from mistique.store import Store
from tests.capturing import capturing, put, put_layer

RNG = np.random.default_rng(0)
MAPS = np.maximum(RNG.normal(size=(1300, 7, 6, 5)), 0).astype(np.float32)
POOLS = [Pool(2), Pool(4, "max", inner="raw"), Pool("all", how="max", inner=Power(8)), Pool(2, "mean", inner=KBit(6))]
KEY = "lab/model@1/train/layer"


def windows(values: np.ndarray, pool: Pool) -> np.ndarray:
    """Each value replaced by that of its window, in NumPy."""
    height, width = values.shape[1:3]
    sigma = max(height, width) if pool.sigma == "all" else int(pool.sigma)
    expected = np.empty(values.shape, np.float64)
    for y in range(0, height, sigma):
        for x in range(0, width, sigma):
            window = values[:, y : y + sigma, x : x + sigma].astype(np.float64)
            expected[:, y : y + sigma, x : x + sigma] = getattr(window, pool.how)(axis=(1, 2), keepdims=True)
    return expected


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("batch_rows", [0, 300])
def test_the_answer_is_what_numpy_pools_and_the_bound_holds(store: Store, pool: Pool, batch_rows: int) -> None:
    key = put_layer(store, MAPS, codec=pool, batch_rows=batch_rows)
    answer = mistique.get(store, key)
    assert (answer.values.shape, answer.values.dtype) == (MAPS.shape, MAPS.dtype)
    node = store.catalog.find(key)[1]
    inner_error = answer.max_abs_error - node.summary_error
    assert np.abs(answer.values - windows(MAPS, pool)).max() <= inner_error + 1e-6
    assert 0 < np.abs(answer.values - MAPS).max() <= answer.max_abs_error < MAPS.max() * 1.1
    assert node.shape == MAPS.shape[1:]
    assert node.codec == pool.config()


def test_the_error_of_the_worst_batch_is_the_bound_of_all_rows(store: Store) -> None:
    maps = np.ones((30, 4, 4, 2), np.float32)
    maps[25, 0, 0, 0] = 9
    key = put_layer(store, maps, codec=Pool(2, "mean", inner="raw"), batch_rows=10)
    assert mistique.get(store, key, rows=[3]).max_abs_error == mistique.get(store, key).max_abs_error == 6.0


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    found = mistique.open(tmp_path_factory.mktemp("pooled") / "s.mistique")
    put_layer(found, MAPS, codec=Pool(2))
    return found


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 1299), min_size=1, max_size=9), data=st.data())
def test_any_rows_columns_and_units_are_those_of_the_whole(pooled: Store, rows: list[int], data: st.DataObject) -> None:
    whole = mistique.get(pooled, KEY).values
    table = np.moveaxis(whole, -1, 1).reshape(len(whole), -1)
    columns = data.draw(st.lists(st.integers(0, table.shape[1] - 1), min_size=1, max_size=6))
    found = mistique.get(pooled, KEY, rows=rows, columns=columns).values
    assert found.reshape(len(rows), -1).tobytes() == table[np.ix_(rows, columns)].tobytes()
    units = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    found = mistique.get(pooled, KEY, rows=rows, unit=units).values
    assert found.tobytes() == np.ascontiguousarray(whole[rows][..., units]).tobytes()


def test_queries_answer_from_what_was_pooled(pooled: Store) -> None:
    whole = windows(MAPS, Pool(2))
    top = mistique.topk(pooled, KEY, column=8, k=5)
    assert np.abs(np.asarray(top.values) - np.sort(whole[:, 1, 2, 0])[::-1][:5]).max() <= top.max_abs_error
    assert mistique.col_dist(pooled, KEY, column=8).max_abs_error == top.max_abs_error


def test_the_cost_of_a_read_is_that_of_what_is_stored(store: Store) -> None:
    key = put_layer(store, RNG.normal(size=(1024, 32, 32, 8)).astype(np.float32), codec=Pool(2))
    whole, unit = mistique.explain(store, key), mistique.explain(store, key, unit=3)
    assert whole.chosen.road == unit.chosen.road == "read"
    stored_nbytes = store.catalog.find(key)[1].stored_nbytes
    assert 0.9 * stored_nbytes < whole.chosen.predicted_nbytes < 1.1 * stored_nbytes
    assert unit.chosen.predicted_nbytes < whole.chosen.predicted_nbytes / 7


def test_a_pooled_layer_is_never_an_exact_answer(store: Store) -> None:
    with pytest.raises(NoPlanError, match="lossy codec pool"):
        mistique.get(store, put_layer(store, MAPS, codec=Pool(2, "max", inner="raw")), exact=True)


def test_a_pooled_layer_takes_about_a_quarter_of_its_inner_codec(store: Store) -> None:
    for name, codec in (("full", Power()), ("pooled", Pool(2))):
        put_layer(store, RNG.normal(size=(1024, 8, 8, 16)).astype(np.float32), model=name, codec=codec)
    full, small = (store.catalog.find(f"{name}@1/train/layer")[1].stored_nbytes for name in ("full", "pooled"))
    assert small < full / 3


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_are_pooled_in_their_own_type(store: Store, dtype: Any) -> None:
    maps = MAPS[:300].astype(dtype)
    answer = mistique.get(store, put_layer(store, maps, codec=Pool(2)))
    assert answer.values.dtype == maps.dtype
    error = np.abs(answer.values.astype(np.float64) - maps.astype(np.float64)).max()
    assert 0 < error <= answer.max_abs_error < 4


def test_what_is_no_feature_map_of_floats_is_kept_by_the_inner_codec_or_exactly(store: Store) -> None:
    with capturing(store, codec=Pool(2, "mean", inner=KBit(7))) as capture:
        capture.append("dense", MAPS[:, 0, 0])
        capture.append("steps", MAPS[:, 0])
        capture.append("classes", np.arange(1300 * 48).reshape(1300, 4, 4, 3))
        capture.add("table", MAPS[:, 0, 0])
        capture.append("prediction", MAPS, role="prediction")
    nodes = store.catalog.find("lab/model@1/train/dense")[0].intermediates
    assert {name: node.codec["name"] for name, node in nodes.items()} == {
        "dense": "kbit",
        "steps": "kbit",
        "classes": "raw",
        "table": "kbit",
        "prediction": "raw",
    }
    found = mistique.get(store, "lab/model@1/train/classes", exact=True).values
    assert np.array_equal(found, np.arange(1300 * 48).reshape(1300, 4, 4, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_finite_values_that_a_window_loses_leave_no_bound(store: Store, bad: float) -> None:
    maps = MAPS[:20].copy()
    maps[3, 0, 0, 0] = bad
    key = put_layer(store, maps, codec=Pool(2, "mean", inner="raw"))
    answer = mistique.get(mistique.open(store.uri, mode="r"), key)
    assert answer.max_abs_error == inf
    assert "without a bound on the error" in repr(answer)
    assert not np.isfinite(answer.values[3, :2, :2, 0]).any()
    assert np.isfinite(answer.values[4:]).all()


def test_nothing_follows_from_a_summary(store: Store) -> None:
    rule = {"op": "global_max", "keepdims": False}
    for codec in (Pool(2), Threshold()):
        with capturing(store, codec="auto") as capture:
            capture.append("maps", MAPS, parents=(), codec=codec)
            capture.append("largest", MAPS.max(axis=(1, 2)), parents=("maps",), derivation=rule)
        answer = mistique.get(store, "lab/model@latest/train/largest")
        assert answer.plan.chosen.road == "read"
        assert np.abs(answer.values - MAPS.max(axis=(1, 2))).max() <= answer.max_abs_error < 0.2


def test_a_pooled_layer_of_one_lineage_is_recorded_again_by_the_same_pool_alone(store: Store) -> None:
    with capturing(store, codec=Pool(2)) as capture:
        capture.append("layer", MAPS, lineage="of maps")
        capture.append("dense", MAPS[:, 0, 0], lineage="of dense")
    # The inner codec, power by five bits, kept the dense one: so would power itself; auto keeps dense layers by six.
    for codec, is_held, is_dense_held in (
        (Pool(2), True, True),
        (Pool(4), False, True),
        (Power(), False, True),
        ("auto", False, False),
    ):
        with capturing(store, codec=codec) as capture:
            assert capture.reuse("layer", lineage="of maps") is is_held
            assert capture.reuse("dense", lineage="of dense") is is_dense_held
            capture.append("another", MAPS[:, 0])
    first, again = (mistique.get(store, f"lab/model@{n}/train/layer") for n in (1, 2))
    assert again.values.tobytes() == first.values.tobytes()
    assert again.max_abs_error == first.max_abs_error > 0


def test_a_record_of_a_pool_over_what_has_no_maps_is_damage() -> None:
    node = Intermediate("x", "stage", 3, (4,), (ColumnType("float32", "<f4"),), codec=Pool().config())
    with pytest.raises(ChunkCorruptError, match="feature maps"):
        stored_form(node)


def test_each_unit_of_a_block_has_its_largest_values_marked(store: Store) -> None:
    maps = RNG.normal(size=(1024, 4, 4, 6)).astype(np.float32)
    maps[..., 1] *= 100
    key = put_layer(store, maps, codec=Threshold(alpha=0.005))
    answer = mistique.get(store, key)
    assert np.unique(answer.values).tolist() == [0.0, 1.0]
    for unit in range(6):
        flat = np.sort(maps[..., unit].reshape(-1))
        n_above = int(0.005 * flat.size)
        assert answer.values[..., unit].sum() == n_above
        assert np.array_equal(answer.values[..., unit] > 0, maps[..., unit] > flat[-n_above - 1])
    assert store.catalog.find(key)[1].codec == {"name": "threshold", "alpha": 0.005, "positions": 16}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_unit_in_several_chunks_has_one_threshold(store: Store, dtype: Any) -> None:
    maps = RNG.normal(size=(1024, 16, 16, 2)).astype(dtype)
    maps[:, :4] += dtype(100)
    key = put_layer(store, maps, codec=Threshold(alpha=0.01), batch_rows=300)
    assert store.catalog.find(key)[1].group_columns < 256
    marked = mistique.get(store, key).values
    for unit in range(2):
        flat = np.sort(maps[..., unit].reshape(-1).astype(np.float32))
        threshold = flat[-int(0.01 * flat.size) - 1]
        assert np.array_equal(marked[..., unit] > 0, maps[..., unit].astype(np.float32) > threshold)
    assert not marked[:, 4:].any()


def test_each_row_block_has_its_own_top_share(store: Store) -> None:
    maps = RNG.normal(size=(2048, 4, 4, 2)).astype(np.float32)
    maps[1024:] += 100
    marked = mistique.get(store, put_layer(store, maps, codec=Threshold(alpha=0.01))).values
    assert marked[:1024].sum() == marked[1024:].sum() == 2 * int(0.01 * 1024 * 16)


def test_bits_have_no_bound_and_say_so(store: Store) -> None:
    answer = mistique.get(store, put_layer(store, MAPS, codec=Threshold()))
    assert answer.max_abs_error == inf
    assert "without a bound on the error" in repr(answer)
    assert "without a bound on the error" in repr(mistique.explain(answer))
    with pytest.raises(NoPlanError):
        mistique.get(store, answer.key, exact=True)


def test_each_column_of_a_table_is_a_unit(store: Store) -> None:
    values = RNG.normal(size=(500, 3))
    key = put(store, values, codec=Threshold(alpha=0.1))
    assert mistique.get(store, key).values.sum(axis=0).tolist() == [50, 50, 50]


def test_a_table_without_a_column_that_the_codec_takes_is_recorded_as_exact(store: Store) -> None:
    key = put(store, np.arange(10), codec="power")
    assert store.catalog.find(key)[1].codec == Raw().config()
    assert mistique.get(store, key, exact=True).values.tolist() == list(range(10))
