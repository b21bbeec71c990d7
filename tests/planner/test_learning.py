"""A store learns what to keep: what pays is stored beside an answer, what saves least a byte goes first."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

import mistique
from mistique.errors import BudgetError, CaptureWarning, ChunkCorruptError, NoPlanError
from mistique.planner.budget import in_use_nbytes
from mistique.planner.choose import choose
from mistique.planner.execute import follow, question_of
from mistique.sklearn import Pipeline
from mistique.storage.references import added_blocks, held_blocks, pack_references, unpack_references
from mistique.store import Store
from tests.capturing import put_layer

COLUMNS = ["sqft_living", "grade", "lat"]
KEY = "homes/poly@1/train/poly"
Fit = Callable[..., Pipeline]


@pytest.fixture
def fit(homes: pd.DataFrame) -> Fit:
    def fit(store: Store, keep: str = "none", *, model: str = "homes/poly") -> Pipeline:
        steps = [("scale", StandardScaler()), ("poly", PolynomialFeatures(3)), ("ridge", Ridge())]
        return Pipeline(steps).set_capture(store, model=model, keep=keep).fit(homes[COLUMNS], homes["price"])

    return fit


def at(store: Store, **options: object) -> Store:
    return mistique.open(store.uri, **options)  # type: ignore[arg-type]


def is_stored(store: Store, key: str = KEY) -> bool:
    capture, node = mistique.open(store.uri, mode="r").catalog.find(key)
    return node.name in capture.stored


def ask(store: Store, n: int = 1, key: str = KEY) -> mistique.queries.get.Part:
    """The same question a few times: a run must have been seen to cost more than a write."""
    for _ in range(n - 1):
        mistique.get(store, key, columns=[0, 1])
    return mistique.get(store, key, columns=[0, 1])


def slow(store: Store, key: str = KEY) -> None:
    """Let the store know that this question was asked so often that storing its answer pays whatever it takes."""
    capture, node = store.catalog.find(key)
    store.worth._demands[capture.id, node.name] = mistique.storage.usage.Demand(1000, 1e6)


def test_what_is_recomputed_is_stored_beside_the_answer_once_it_pays_and_then_read_by_all(
    store: Store, fit: Fit
) -> None:
    pipe = fit(store)
    with at(store, gamma_min=0.0) as learning:
        slow(learning)
        answer = ask(learning)
        assert answer.plan.chosen.road == "recompute"
        assert answer.plan.stored.startswith("stored 1500 rows of poly")
        assert ask(learning).plan.candidates[0].is_possible
    reader = mistique.open(store.uri, mode="r")
    capture, node = reader.catalog.find(KEY)
    question = question_of(reader, capture, node, exact=True)
    plan = choose(question, reader.calibration)
    values, done = follow(reader, capture, question, replace(plan, chosen=plan.candidates[0]))
    assert (done.chosen.road, done.chosen.is_possible, done.max_abs_error) == ("read", True, 0.0)
    assert np.array_equal(values.to_numpy(), pipe[:-1].transform(mistique.get(reader, KEY[:-4] + "input").to_frame()))


def test_nothing_is_stored_before_it_pays_nor_with_an_infinite_threshold_nor_by_a_reader(
    store: Store, fit: Fit
) -> None:
    fit(store)
    with at(store, gamma_min=1e15) as hardly:
        assert ask(hardly).plan.stored == ""
    with at(store, gamma_min=float("inf")) as never, at(store, mode="r") as reader:
        for opened in (never, reader):
            slow(opened)
            assert ask(opened).plan.stored == ""
    assert not is_stored(store)


def test_demand_is_remembered_from_session_to_session(store: Store, fit: Fit) -> None:
    fit(store)
    for _ in range(2):
        with at(store, gamma_min=float("inf")) as session:
            ask(session, 3)
    capture, node = store.catalog.find(KEY)
    demand = at(store).worth.demand(capture, node.name)
    assert demand.n_queries == 6
    assert demand.saved_seconds > 0


def test_a_failed_write_beside_an_answer_is_a_warning_and_the_answer_is_given(
    store: Store, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(store)
    expected = ask(at(store, mode="r")).values

    def fail(*_: object) -> None:
        raise ChunkCorruptError(where="disk", expected="room", got="none")

    monkeypatch.setattr(type(store.catalog), "add", fail)
    slow(store)
    with pytest.warns(CaptureWarning, match=r"poly was answered but not stored.*disk"):
        answer = ask(store)
    assert np.array_equal(answer.values, expected)
    assert not is_stored(store)


def test_a_table_that_is_run_in_portions_is_stored_beside_the_answer_as_it_was_captured(
    store: Store, homes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = pd.concat([homes] * 6, ignore_index=True)
    steps = [("scale", StandardScaler()), ("poly", PolynomialFeatures(3)), ("ridge", Ridge())]
    pipe = Pipeline(steps).set_capture(store, model="homes/poly", keep="none").fit(many[COLUMNS], many["price"])
    monkeypatch.setattr(mistique.planner.recompute, "_CELLS_AT_ONCE", 4096)
    store.pin(KEY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(store).plan.stored.startswith("stored 9000 rows of poly")
    expected = pipe[:-1].transform(many[COLUMNS])
    capture, node = store.catalog.find(KEY)
    question = question_of(store, capture, node, exact=True)
    plan = choose(question, store.calibration)
    values, _ = follow(store, capture, question, replace(plan, chosen=plan.candidates[0]))
    assert np.array_equal(values.to_numpy(), expected)


def test_a_pin_stores_at_the_next_answer_and_is_never_evicted(store: Store, fit: Fit) -> None:
    fit(store)
    store.pin(KEY)
    ask(store)
    assert is_stored(store)
    with pytest.raises(BudgetError, match="poly is pinned"):
        store.evict(max_nbytes=1)
    store.unpin(KEY)
    slow(store, KEY[:-4] + "prediction")
    assert store.evict(max_nbytes=in_use_nbytes(store) - 1.0) == [KEY]
    assert not is_stored(store)


def test_the_lowest_gamma_goes_first_and_what_was_evicted_is_recomputed(store: Store, homes: pd.DataFrame) -> None:
    keys = []
    for name, columns in (("asked", COLUMNS), ("idle", ["sqft_lot", "sqft_above", "long"])):
        pipe = Pipeline([("poly", PolynomialFeatures(3)), ("mean", DummyRegressor())])
        pipe.set_capture(store, model=f"homes/{name}")
        pipe.fit(homes[columns], homes["price"])
        keys.append(f"homes/{name}@1/train/poly")
        slow(store, f"homes/{name}@1/train/prediction")
    asked, idle = keys
    before = mistique.get(store, asked).values
    slow(store, asked)
    total = in_use_nbytes(store)
    assert store.evict(max_nbytes=int(total) - 1) == [idle]
    assert in_use_nbytes(store) < total
    assert store.evict(max_nbytes=int(in_use_nbytes(store)) - 1) == [asked]
    assert np.array_equal(mistique.get(store, asked, exact=True).values, before)


def test_what_others_refer_to_is_not_evicted_for_nothing(store: Store, fit: Fit) -> None:
    fit(store, "all", model="homes/one")
    fit(store, "all", model="homes/two")  # shares every chunk with the first
    total = in_use_nbytes(store)
    with pytest.raises(BudgetError):
        store.evict(max_nbytes=1)
    assert in_use_nbytes(store) == total


def test_the_last_road_to_an_answer_is_not_evicted_and_the_error_says_so(store: Store, homes: pd.DataFrame) -> None:
    rng = np.random.default_rng()
    noise = FunctionTransformer(lambda X: X + rng.normal(size=X.shape))
    pipe = Pipeline([("noise", noise), ("ridge", Ridge())]).set_capture(store, model="homes/noisy")
    pipe.fit(homes[COLUMNS], homes["price"])
    key = "homes/noisy@1/train/noise"
    before = mistique.get(store, key).values
    with pytest.raises(BudgetError, match=r"noise is the last road to noise: .*chance in it"):
        store.evict(max_nbytes=1)
    assert np.array_equal(mistique.get(store, key).values, before)


def test_a_budget_is_held_by_captures_and_what_cannot_go_is_said(store: Store, fit: Fit) -> None:
    fit(store, "all")
    full = in_use_nbytes(store)
    fresh = mistique.open(store.uri + "-small", max_nbytes=int(full * 0.95))
    fit(fresh, "all")
    assert in_use_nbytes(fresh) <= full * 0.95
    assert mistique.get(fresh, KEY).values.shape == (1500, 20)
    with pytest.warns(CaptureWarning, match="input is the last road to input"):
        fit(mistique.open(store.uri + "-tiny", max_nbytes=10), "all")


def test_auto_keeps_what_takes_long_for_its_bytes_and_nothing_else(store: Store, homes: pd.DataFrame) -> None:
    def wait(X: np.ndarray) -> np.ndarray:
        sleep(0.5)
        return X[:, 1:3]

    steps = [("wide", PolynomialFeatures(2)), ("wait", FunctionTransformer(wait)), ("ridge", Ridge())]
    with at(store, gamma_min=3e5) as strict:
        pipe = Pipeline(steps).set_capture(strict, model="homes/auto", keep="auto", on_error="raise")
        pipe.fit(homes[COLUMNS].to_numpy(), homes["price"])
    capture, _ = store.catalog.find("homes/auto@1/train/wait")
    assert capture.stored == {"input", "target", "wait", "prediction"}


def test_a_stored_record_of_a_capture_that_was_replaced_counts_for_nothing(store: Store, fit: Fit) -> None:
    fit(store)
    slow(store)
    ask(store)
    capture, node = store.catalog.find(KEY)
    references = store.catalog.references(capture)[node.name]
    nodes = list(capture.intermediates.values())
    store.catalog.commit(capture.version, capture.dataset, nodes)
    assert not is_stored(store)
    # Of one who has not seen the new capture.
    store.catalog.add(capture, replace(node, references=references))
    assert not is_stored(store)


def test_blocks_that_are_stored_later_are_read_by_all_and_outlive_a_compaction(store: Store) -> None:
    values = np.random.default_rng(0).random((3000, 70), np.float32)
    key = put_layer(store, values, batch_rows=100)
    store.drop(key)
    for rows in (np.arange(1024, 2048), np.arange(2048, 3000), np.arange(0, 1024)):
        # As it was found before anything was stored: what was stored since is not lost.
        capture, node = store.catalog.find(key)
        with store.taking(capture, node, rows) as taking:
            taking.append(node.name, values[rows], role="stage", codec="raw")
        store.compact(grace_seconds=0)
        reader = mistique.open(store.uri, mode="r")
        assert np.array_equal(
            mistique.get(reader, key, rows=slice(int(rows[0]), int(rows[-1]) + 1)).values, values[rows]
        )
        if len(rows) == 1024 and rows[0]:
            with pytest.raises(NoPlanError, match="only 1 of its row blocks are stored"):
                mistique.get(reader, key, rows=slice(0, 1100))
    assert np.array_equal(mistique.get(reader, key, exact=True).values, values)


@pytest.mark.parametrize("blocks", [[0], [2, 4], [1, 2, 3], [0, 4]])
def test_blocks_that_are_stored_later_are_found_where_they_lie(blocks: list[int]) -> None:
    def grid(n: int, unit: int) -> np.ndarray:
        units = unit + np.arange(n * 3).reshape(n, 3)
        return np.stack([np.zeros_like(units), units, np.zeros_like(units)], axis=2)

    one, other = (mistique.schema.Segment(c * 32, 99, 99, *[mistique.schema.Part(0, 8, "")] * 2, 9) for c in "ab")
    new = pack_references([one], grid(len(blocks), 7))
    found = added_blocks(None, new, blocks=np.array(blocks), n_blocks=5)
    assert np.flatnonzero(held_blocks(found, 5)).tolist() == blocks
    assert not found.is_whole
    unpacked = unpack_references(found)
    assert np.array_equal(unpacked[blocks], grid(len(blocks), 7))
    rest = [block for block in range(5) if block not in blocks]
    whole = added_blocks(found, pack_references([other], grid(len(rest), 0)), blocks=np.array(rest), n_blocks=5)
    assert whole.is_whole
    again = unpack_references(whole)
    names = [[whole.segments[number].id[0] for number in row] for row in again[:, :, 0]]
    assert names == [["a" if block in blocks else "b"] * 3 for block in range(5)]
    assert np.array_equal(again[blocks][:, :, 1:], grid(len(blocks), 7)[:, :, 1:])


def test_no_warning_of_the_environment_where_nothing_changed(store: Store, fit: Fit) -> None:
    fit(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(store)


def test_another_version_of_a_library_is_said_once(store: Store, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(store)
    recomputer = type(mistique.sklearn.recomputer.recomputer)
    monkeypatch.setattr(recomputer, "environment", lambda _: {"scikit-learn": "0.1", "numpy": np.__version__})
    with pytest.warns(mistique.errors.EnvironmentWarning, match=r"scikit-learn .* became 0\.1"):
        ask(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(store)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_nbytes": "1GB"}, "max_nbytes: expected a number of bytes above 0, or None, got '1GB'"),
        ({"max_nbytes": True}, "max_nbytes: expected a number of bytes above 0, or None, got True"),
        ({"max_nbytes": 0}, "max_nbytes: expected a number of bytes above 0, or None, got 0"),
        ({"gamma_min": "high"}, "gamma_min: expected seconds a GB, at least 0, or infinity, got 'high'"),
        ({"gamma_min": float("nan")}, "gamma_min: expected seconds a GB, at least 0, or infinity, got nan"),
        ({"memory_nbytes": -5}, "memory_nbytes: expected a number of bytes, at least 0, got -5"),
    ],
)
def test_a_budget_or_a_threshold_that_is_none_is_told(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mistique.open(tmp_path / "s", **given)


@pytest.mark.parametrize("max_nbytes", [-1, "all"])
def test_an_eviction_down_to_no_number_is_told(store: Store, max_nbytes: Any) -> None:
    with pytest.raises(ValueError, match="max_nbytes: expected a number of bytes, at least 0"):
        store.evict(max_nbytes=max_nbytes)
