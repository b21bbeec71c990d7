"""An index gives what the chunks of its layer give, bit for bit, and never anything else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mistique
from mistique.codecs import Codec, KBit, LowPrecision, Pool, Power, Raw, Threshold, within
from mistique.errors import (
    BudgetError,
    IndexTooLargeError,
    IntermediateNotFoundError,
    QueryError,
    StoreReadOnlyError,
)
from mistique.planner import index_layout
from mistique.planner.budget import in_use_nbytes
from mistique.planner.choose import choose
from mistique.planner.cost import ReadWork
from mistique.planner.execute import follow, question_of
from mistique.planner.plan import INDEX, Plan
from mistique.planner.values import Values
from mistique.queries.disk_usage import disk_usage
from mistique.storage.usage import Observation
from mistique.store import Store
from tests.capturing import put, put_layer

CODECS = [Raw(), Power(bits=5), Power(bits=8), KBit(), KBit(bits=3), LowPrecision(), Threshold(), within(absolute=0.1)]
# A dense layer, maps of four places, and maps of which a chunk holds no more than one.
SHAPES = [(70,), (2, 2, 9), (8, 8, 3)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return mistique.open(tmp_path / "s.mistique")


def activations(n_rows: int, shape: tuple[int, ...], *, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Half of it zero, some negative, of every special value one, a constant unit, one of ties, one of NaN."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((n_rows, *shape)) < 0.5, 0, rng.normal(size=(n_rows, *shape)) * 5).astype(np.float32)
    flat = values.reshape(n_rows, -1)
    flat[rng.integers(n_rows, size=5), rng.integers(flat.shape[1], size=5)] = [np.nan, np.inf, -np.inf, -0.0, 1e-40]
    values[..., 0] = 2.5
    values[..., 1] = np.arange(n_rows).reshape(-1, *[1] * (len(shape) - 1)) % 3
    return values.astype(dtype)


def by_road(
    store: Store,
    key: str,
    road: Callable[[Any], bool],
    *,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    of_largest: bool = False,
) -> tuple[np.ndarray, Plan]:
    """The cells that one road gives, whatever it costs."""
    values, done = values_by_road(store, key, road, rows=rows, columns=columns, of_largest=of_largest)
    return np.asarray(values.parts), done


def values_by_road(
    store: Store,
    key: str,
    road: Callable[[Any], bool],
    *,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    of_largest: bool = False,
) -> tuple[Values, Plan]:
    """What one road gives, whatever it costs."""
    capture, node = store.catalog.find(key)
    question = question_of(store, capture, node, rows=rows, columns=columns, of_largest=of_largest)
    plan = choose(question, store.calibration)
    (chosen,) = [candidate for candidate in plan.candidates if road(candidate)]
    return follow(store, capture, question, replace(plan, chosen=chosen))


def assert_alike(store: Store, key: str, *, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> None:
    """The index and the chunks say the same, and the bound of the index is one of theirs."""
    found, by_index = by_road(store, key, lambda c: c.is_index, rows=rows, columns=columns)
    expected, by_reading = by_road(store, key, lambda c: c.reads_target, rows=rows, columns=columns)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    assert by_index.max_abs_error is not None
    assert by_reading.max_abs_error is not None
    assert by_index.max_abs_error >= by_reading.max_abs_error


def largest_alike(store: Store, key: str, unit: int) -> None:
    """The largest of a unit's positions is what all of its positions say."""
    _, node = store.catalog.find(key)
    columns = np.arange(unit * node.positions, (unit + 1) * node.positions)
    found = values_by_road(store, key, lambda c: c.is_index, columns=columns, of_largest=True)[0]
    expected, _ = by_road(store, key, lambda c: c.reads_target, columns=columns)
    numbers = expected.reshape(node.n_rows, -1)
    np.testing.assert_array_equal(np.asarray(found.parts).reshape(-1), numbers.max(axis=1))
    np.testing.assert_array_equal(np.asarray(found.places).reshape(-1), numbers.argmax(axis=1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_an_index_of_every_codec_gives_what_the_chunks_give(store: Store, codec: Codec, shape: tuple[int, ...]) -> None:
    key = put_layer(store, activations(2500, shape), codec=codec)
    made = mistique.index(store, key, max_share=2.0)
    _, node = store.catalog.find(key)
    if shape == (8, 8, 3):
        assert made.form == "maxima"
        for unit in range(3):
            largest_alike(store, key, unit)
        return
    assert made.form == ("codes" if isinstance(codec, (Power, KBit)) else "cells")
    assert_alike(store, key, columns=np.array([0, 1, 5, node.n_columns - 1]))
    assert_alike(store, key, rows=np.array([0, 3, 1023, 1024, 2499]), columns=np.array([4, 7, 30]))
    assert_alike(store, key)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("codec", [Raw(), Power(bits=6), KBit()], ids=repr)
def test_floats_of_every_width(store: Store, codec: Codec, dtype: Any) -> None:
    key = put_layer(store, activations(1100, (70,), dtype=dtype), codec=codec)
    mistique.index(store, key, max_share=3.0)
    assert_alike(store, key, columns=np.array([0, 1, 2, 69]))
    maps = put_layer(store, activations(300, (8, 8, 3), dtype=dtype), codec=codec, name="maps", dataset="maps")
    mistique.index(store, maps, max_share=3.0)
    before = mistique.topk(store, maps, unit=2, k=300)
    assert before.plan.chosen.road in ("read", "index of largest")
    found, _ = by_road(store, maps, lambda c: c.is_index, columns=np.arange(128, 192), of_largest=True)
    assert found.shape == (300, 1)


@pytest.mark.parametrize("inner", ["power", "raw"])
def test_what_was_pooled_is_indexed_as_it_is_stored(store: Store, inner: str) -> None:
    key = put_layer(store, activations(600, (4, 4, 12)), codec=Pool(2, inner=inner))
    mistique.index(store, key, max_share=3.0)
    assert_alike(store, key, columns=np.arange(32, 64))
    assert_alike(store, key, rows=np.array([5, 599]), columns=np.array([1, 17, 180]))


def test_integers_are_indexed_as_they_are(store: Store) -> None:
    tokens = np.random.default_rng(0).integers(0, 30_000, size=(1500, 40)).astype(np.int32)
    key = put_layer(store, tokens)
    assert mistique.index(store, key, max_share=1.0).form == "cells"
    assert_alike(store, key, columns=np.array([3, 39]))


def test_spans_of_rows_follow_one_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (index_layout, mistique.planner.index_build):
        monkeypatch.setattr(module, "SPAN_ROWS", 2048)
    for number, (codec, shape) in enumerate([(Power(), (70,)), (Raw(), (70,)), (Raw(), (8, 8, 3))]):
        key = put_layer(store, activations(5000, shape), codec=codec, dataset=f"d{number}")
        mistique.index(store, key, max_share=2.0)
        if shape == (8, 8, 3):
            largest_alike(store, key, 2)
        else:
            assert_alike(store, key, rows=np.array([0, 2047, 2048, 4999]), columns=np.array([2, 69]))
            assert_alike(store, key)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), n_rows=st.integers(1, 40), bits=st.sampled_from([3, 5, 8]))
def test_any_few_rows_and_columns(store: Store, seed: int, n_rows: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    bits_of = rng.integers(0, 2**32, size=(n_rows, 6), dtype=np.uint32)
    values = np.where(rng.random(bits_of.shape) < 0.3, bits_of.view(np.float32), np.float32(0))
    key = put_layer(store, values, codec=Power(bits=bits), dataset=f"{seed}-{n_rows}-{bits}")
    mistique.index(store, key, max_share=1e4)
    columns = np.flatnonzero(rng.random(6) < 0.5)
    rows = np.flatnonzero(rng.random(n_rows) < 0.5)
    assert_alike(store, key, rows=rows if len(rows) else None, columns=columns if len(columns) else None)


def test_topk_takes_the_index_where_it_is_quicker_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.calibration, "add", lambda observation: None)  # by what is assumed, on a busy machine too
    key = put_layer(store, activations(12_000, (1024,)), codec=Power(bits=6))
    before = mistique.topk(store, key, unit=700, k=200)
    mistique.index(store, key)
    after = mistique.topk(store, key, unit=700, k=200)
    assert after.plan.chosen.road == "index"
    np.testing.assert_array_equal(after.positions, before.positions)
    np.testing.assert_array_equal(after.values, before.values)
    assert after.plan.read_nbytes is not None
    assert before.plan.read_nbytes is not None
    assert after.plan.read_nbytes < before.plan.read_nbytes / 10


def test_an_index_whose_first_reading_took_long_is_read_again(store: Store) -> None:
    key = put_layer(store, activations(12_000, (1024,)), codec=Power(bits=6))
    mistique.index(store, key)
    store.calibration.add(Observation("read", INDEX, ReadWork(2, 2, 9_000, 12_000, 1, 12_000).amounts, 0.0, 60.0))
    assert mistique.topk(store, key, unit=700, k=200).plan.chosen.road == "index"


def test_an_exact_question_is_not_answered_by_an_index_of_codes(store: Store) -> None:
    key = put_layer(store, activations(500, (70,)), codec=Power())
    mistique.index(store, key, max_share=1.0)
    with pytest.raises(mistique.errors.NoPlanError, match="index: it is stored by the lossy codec power"):
        mistique.get(store, key, columns=[2], exact=True)


def test_an_index_that_would_be_too_large_is_not_made(store: Store) -> None:
    key = put_layer(store, np.random.default_rng(0).normal(size=(3000, 70)).astype(np.float32))
    with pytest.raises(IndexTooLargeError, match=r"max_share=0\.1"):
        mistique.index(store, key, max_share=0.1)
    assert "index" not in [c.road for c in mistique.explain(store, key).candidates]
    assert store.compact(grace_seconds=0).n_segments_removed == 0


def test_what_cannot_be_indexed_is_said(store: Store) -> None:
    with pytest.raises(QueryError, match="lie each by itself"):
        mistique.index(store, put(store, np.zeros((10, 3))))
    key = put_layer(store, activations(50, (70,)))
    with pytest.raises(QueryError, match="max_share"):
        mistique.index(store, key, max_share=0)
    store.drop(key)
    with pytest.raises(QueryError, match="not stored"):
        mistique.index(store, key)
    with pytest.raises(IntermediateNotFoundError):
        mistique.index(store, "nobody@1/train/layer")
    with pytest.raises(StoreReadOnlyError), mistique.open(store.uri, mode="r") as reader:
        mistique.index(reader, put_layer(store, activations(50, (70,)), codec=Power(), dataset="d"))


def test_an_index_goes_with_its_layer_and_by_itself_and_its_bytes_are_freed(store: Store) -> None:
    values = activations(3000, (70,))
    key = put_layer(store, values, codec=Power())
    made = mistique.index(store, key)
    assert mistique.index(store, key) == made
    assert_alike(store, key, columns=np.array([3]))
    store.drop_index(key)
    assert "index" not in [c.road for c in mistique.explain(store, key).candidates]
    done = store.compact(grace_seconds=0)
    assert done.n_segments_removed == 1 or store.compact(grace_seconds=0).n_segments_removed == 1
    mistique.index(store, key)
    store.drop(key)
    assert not store.catalog.find(key)[0].indexes
    store.compact(grace_seconds=0)
    assert store.compact(grace_seconds=0).nbytes_after < made.nbytes + 30_000


def test_a_compaction_keeps_an_index_in_use_and_it_is_found_where_it_lies(store: Store) -> None:
    keys = [
        put_layer(store, activations(1500, (70,), seed=seed), codec=Power(), dataset=f"d{seed}") for seed in range(3)
    ]
    for key in keys:
        mistique.index(store, key, max_share=1.0)
    assert store.compact(grace_seconds=0).n_segments_rewritten > 0
    store.compact(grace_seconds=0)
    for reader in (store, mistique.open(store.uri, mode="r")):
        for key in keys:
            assert_alike(reader, key, columns=np.array([0, 5, 69]))


def test_a_damaged_index_is_passed_over(store: Store) -> None:
    key = put_layer(store, activations(12_000, (512,)), codec=Power(bits=6))
    expected = mistique.topk(store, key, unit=3)
    made = mistique.index(store, key)
    capture, node = store.catalog.find(key)
    references = store.graph(capture).indexes[node.name].references
    assert references is not None
    folder = Path(store.uri) / "segments" / references.segments[0].id
    store.close()
    # The file of the cells alone: what damage elsewhere does to TileDB is for tests/storage/test_damage.py.
    cells = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
    whole = cells.read_bytes()
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 0.99):
        at = int(share * len(whole))
        cells.write_bytes(whole[:at] + bytes(byte ^ 0x40 for byte in whole[at : at + 4096]) + whole[at + 4096 :])
        with mistique.open(store.uri, mode="r") as reader:
            found = mistique.topk(reader, key, unit=3)
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.values, expected.values)
    assert made.form == "codes"
    with mistique.open(store.uri) as other:
        assert [damage.kind for damage in other.check().damages] == ["index"]
        other.check(repair=True)
        assert not other.catalog.find(key)[0].indexes
        assert other.check().is_whole


def test_a_build_that_is_cut_off_before_its_record_leaves_nothing_to_see(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put_layer(store, activations(1500, (70,)), codec=Power())

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(store.catalog), "add_index", die)
        with pytest.raises(KeyboardInterrupt):
            mistique.index(store, key, max_share=1.0)
    with mistique.open(store.uri) as other:
        assert "index" not in [c.road for c in mistique.explain(other, key).candidates]
        assert other.compact(grace_seconds=0).n_segments_removed == 1
        mistique.index(other, key, max_share=1.0)
        assert_alike(other, key, columns=np.array([1, 2]))


def _index_there(uri: str, key: str) -> str:
    with mistique.open(uri) as store:
        return mistique.index(store, key, max_share=1.0).form


def test_two_processes_index_one_layer_at_once(store: Store) -> None:
    key = put_layer(store, activations(1500, (70,)), codec=Power())
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        forms = pool.starmap(_index_there, [(store.uri, key)] * 2)
    assert forms == ["codes", "codes"]
    assert_alike(store, key, columns=np.array([1, 2]))
    store.compact(grace_seconds=0)
    store.compact(grace_seconds=0)
    assert_alike(store, key, columns=np.array([1, 2]))


def test_questions_of_few_columns_make_an_index_once_it_pays(store: Store) -> None:
    key = put_layer(store, activations(9000, (512,)), codec=Power(bits=6))
    expected = mistique.topk(store, key, unit=3)
    store.column_reads.seconds[store.catalog.find(key)[0].orders["layer"]] = 1e6
    made = mistique.topk(store, key, unit=3)
    assert made.plan.stored.startswith("indexed layer")
    after = mistique.topk(store, key, unit=3)
    assert "index" in [c.road for c in after.plan.candidates]
    for answer in (made, after):
        np.testing.assert_array_equal(answer.values, expected.values)


def test_a_store_may_index_layers_as_they_are_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistique.planner.index_byproduct, "_MIN_FLOAT32_NBYTES", 100_000)
    with mistique.open(tmp_path / "captured.mistique", indexes="captured") as store:
        for name, width, codec in (("dense", 64, Power()), ("exact", 64, Raw()), ("small", 4, Power())):
            put_layer(store, activations(2000, (width,)), name=name, dataset=name, codec=codec)
            put(store, np.arange(200_000.0), dataset=f"{name} beside")
        forms = {c.dataset: [index.form for _, index in c.indexes.values()] for c in store.catalog.captures()}
        assert forms.pop("dense") == ["codes"]
        assert forms.pop("exact") in (["bounds"], ["cells"])
        assert not any(forms.values())
        assert "index" in [c.road for c in mistique.explain(store, "lab/model@latest/dense/dense").candidates]
    with pytest.raises(ValueError, match='indexes: expected "asked" or "captured"'):
        mistique.open(tmp_path / "captured.mistique", indexes="always")


@pytest.mark.parametrize("how", ["a reader", "no share", "not yet", "too large", "all columns"])
def test_nothing_is_indexed_by_itself_where_that_is_not_wanted(store: Store, how: str) -> None:
    key = put_layer(store, activations(9000, (512,)), codec=Power(bits=6))
    of_how: dict[str, Any] = {
        "a reader": {"mode": "r"},
        "no share": {"index_share": 0},
        "too large": {"index_share": 0.01},
    }
    options = of_how.get(how, {})
    with mistique.open(store.uri, **options) as asking:
        order = asking.catalog.find(key)[0].orders["layer"]
        asking.column_reads.seconds[order] = -1e6 if how == "not yet" else 1e6  # however long this question takes
        columns = None if how == "all columns" else [3]
        assert mistique.get(asking, key, columns=columns).plan.stored == ""
        assert not asking.catalog.find(key)[0].indexes
        assert (order in asking.column_reads.given_up) == (how == "too large")


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="index_share"):
        mistique.open("/nowhere/s.mistique", index_share=-1)


def test_indexes_are_counted_and_are_the_first_to_go(store: Store) -> None:
    key = put_layer(store, activations(3000, (70,)), codec=Power())
    without = in_use_nbytes(store)
    made = mistique.index(store, key)
    assert in_use_nbytes(store) == without + made.nbytes
    (used,) = [one for one in disk_usage(store).used if one.index_nbytes]
    assert (used.key, used.index_nbytes) == (key, made.nbytes)
    assert "indexes: " in repr(store)
    assert store.evict(max_nbytes=int(without + made.nbytes)) == []
    assert disk_usage(store).index_nbytes == made.nbytes
    assert store.evict(max_nbytes=int(without + made.nbytes) - 1) == []
    assert disk_usage(store).index_nbytes == 0
    assert store.catalog.find(key)[0].stored


def test_a_budget_that_cannot_be_held_takes_no_index(store: Store) -> None:
    key = put_layer(store, activations(3000, (70,)), codec=Power())
    mistique.index(store, key)
    with pytest.raises(BudgetError):
        store.evict(max_nbytes=10)
    assert disk_usage(store).index_nbytes > 0
