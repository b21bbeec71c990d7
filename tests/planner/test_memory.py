"""What was recomputed whole is given again from memory, and is what the model gave."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

import mistique
from mistique.planner.execute import execute
from mistique.planner.memory import Recent
from mistique.sklearn import Pipeline
from mistique.storage.usage import Demand, Observation
from mistique.store import Store

COLUMNS = ["sqft_living", "grade", "lat"]
KEY = "homes/poly@1/train/poly"


@pytest.fixture
def homes(homes: pd.DataFrame) -> pd.DataFrame:
    """Rows that are numbered."""
    return homes.reset_index(drop=True)


def fitted(store: Store, homes: pd.DataFrame, *, between: object = "passthrough") -> Pipeline:
    steps = [("scale", StandardScaler()), ("poly", PolynomialFeatures(3)), ("between", between), ("ridge", Ridge())]
    pipe = Pipeline(steps).set_capture(store, model="homes/poly", keep="none")
    return pipe.fit(homes[COLUMNS], homes["price"])


@pytest.fixture
def asked(store: Store, homes: pd.DataFrame) -> tuple[Store, np.ndarray]:
    pipe = fitted(store, homes)
    opened = mistique.open(store.uri, gamma_min=float("inf"))
    return opened, pipe[:2].transform(homes[COLUMNS])


def test_what_was_used_last_stays() -> None:
    kept: Recent[str, int] = Recent(2)
    assert [kept.keep(name, i) for i, name in enumerate("ab")] == [0, 1]
    assert kept.get("a") == 0
    kept.keep("c", 2)
    assert [kept.get(name) for name in "abc"] == [0, None, 2]
    kept.drop("a")
    assert [name in kept for name in "abc"] == [False, False, True]
    assert len(kept) == 1


def road(store: Store, **question: object) -> str:
    return mistique.get(store, KEY, **question).plan.chosen.road  # type: ignore[arg-type]


def test_all_rows_once_recomputed_answer_whatever_is_asked_of_them_after(asked: tuple[Store, np.ndarray]) -> None:
    store, expected = asked
    assert road(store, columns=[1]) == "recompute"
    rows, columns = [7, 900, 3], [5, 0, 11]
    answer = mistique.get(store, KEY, rows=rows, columns=columns)
    assert (answer.plan.chosen.road, answer.plan.took is not None) == ("memory", True)
    assert np.array_equal(answer.values, expected[np.ix_(rows, columns)])
    assert np.array_equal(mistique.get(store, KEY, exact=True).values, expected)


def test_of_a_version_that_was_deleted_nothing_stays_in_memory(asked: tuple[Store, np.ndarray]) -> None:
    store, _ = asked
    mistique.get(store, KEY)
    assert store.memory._nbytes
    store.delete("homes/poly@1")
    assert not store.memory._nbytes
    assert not store.memory._kept


def test_one_answer_from_memory_that_took_long_does_not_turn_it_away(asked: tuple[Store, np.ndarray]) -> None:
    store, _ = asked
    store.calibration.add(Observation("memory", "table", (1.0, 10.0), 0.0, 60.0))
    assert road(store, columns=[1]) == "recompute"
    assert road(store, columns=[1]) == "memory"


def test_some_rows_are_no_whole_and_are_not_kept(asked: tuple[Store, np.ndarray]) -> None:
    store, _ = asked
    assert road(store, rows=[1, 2]) == "recompute"
    assert road(store, rows=[1, 2]) == "recompute"


def test_who_changes_an_answer_changes_no_other(asked: tuple[Store, np.ndarray]) -> None:
    store, expected = asked
    for question in ({}, {"columns": [2, 3]}, {"columns": [2]}, {}):
        answer = mistique.get(store, KEY, **question)
        assert np.array_equal(answer.values, expected[:, question.get("columns", slice(None))])
        answer.values[:] = -1.0


def test_texts_and_what_may_be_null_come_back_as_they_were_given(store: Store, homes: pd.DataFrame) -> None:
    frame = homes[["sqft_living", "grade"]].assign(kind=pd.array(["a", None, "b"] * (len(homes) // 3), dtype="str"))
    frame["grade"] = frame["grade"].astype("Int64").mask(frame["grade"] > 8)
    steps = [("same", FunctionTransformer(pd.DataFrame.copy)), ("ridge", Ridge())]
    pipe = Pipeline([steps[0], ("numbers", FunctionTransformer(_numbers)), steps[1]])
    pipe.set_capture(store, model="homes/mixed", keep="none").fit(frame, homes["price"])
    opened, key = mistique.open(store.uri, gamma_min=float("inf")), "homes/mixed@1/train/same"
    first, again = (mistique.get(opened, key).to_frame() for _ in range(2))
    assert mistique.get(opened, key).plan.chosen.road == "memory"
    pd.testing.assert_frame_equal(first, again)
    pd.testing.assert_frame_equal(mistique.get(opened, key, rows=[0, 1, 5]).to_frame(), first.iloc[[0, 1, 5]])


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["sqft_living"]]


def test_what_is_pinned_is_stored_though_it_is_in_memory(store: Store, homes: pd.DataFrame) -> None:
    fitted(store, homes)
    opened = mistique.open(store.uri)
    assert road(opened) == "recompute"
    opened.pin(KEY)
    assert mistique.get(opened, KEY).plan.stored.startswith("stored 1500 rows of poly")


@pytest.mark.parametrize("max_nbytes", [0, 300_000])
def test_what_does_not_fit_is_not_kept(store: Store, homes: pd.DataFrame, max_nbytes: int) -> None:
    fitted(store, homes)
    opened = mistique.open(store.uri, gamma_min=float("inf"), memory_nbytes=max_nbytes)
    assert [road(opened) for _ in range(2)] == ["recompute", "recompute"]


def test_what_was_asked_for_last_stays(store: Store, homes: pd.DataFrame) -> None:
    fitted(store, homes, between=FunctionTransformer(np.negative))
    nbytes = store.catalog.find(KEY)[1].raw_nbytes
    opened = mistique.open(store.uri, gamma_min=float("inf"), memory_nbytes=2 * nbytes)
    keys = [KEY, KEY[:-4] + "between", KEY[:-4] + "scale"]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        mistique.get(opened, key)
    capture = opened.catalog.find(KEY)[0]
    kept = [key.rpartition("/")[2] for key in keys if opened.memory.get(capture, key.rpartition("/")[2])]
    assert kept == ["poly", "scale"]


def test_a_capture_that_replaced_another_is_not_answered_by_what_that_one_gave(
    store: Store, homes: pd.DataFrame
) -> None:
    found = []
    for factor in (1.0, 2.0):
        with store.capture(model="m", dataset="d", framework="sklearn", run_id="0" * 32) as taken:
            taken.add("input", homes[COLUMNS].to_numpy() * factor, role="input")
        found.append(store.catalog.find("m@1/d/input"))
    (before, node), (after, _) = found
    values, _ = execute(store, after, node)
    store.memory.keep(before, values, max_abs_error=0.0)
    assert before.id == after.id
    assert store.memory.get(before, "input") is not None
    assert store.memory.get(after, "input") is None


def many_questions(store: Store) -> None:
    """Let the store know of so many questions before that whatever is lost by running again pays."""
    capture, node = store.catalog.find(KEY)
    store.worth._demands[capture.id, node.name] = Demand(1000, 1e6)


def test_what_stays_in_memory_is_stored_when_it_has_to_run_again(store: Store, homes: pd.DataFrame) -> None:
    fitted(store, homes)
    first = mistique.open(store.uri, gamma_min=0.0)
    assert mistique.get(first, KEY).plan.stored == ""
    assert [road(first) for _ in range(3)] == ["memory"] * 3
    later = mistique.open(store.uri, gamma_min=0.0)
    many_questions(later)
    assert mistique.get(later, KEY).plan.stored.startswith("stored 1500 rows of poly")


def test_what_memory_answered_was_not_lost(store: Store, homes: pd.DataFrame) -> None:
    fitted(store, homes)
    opened = mistique.open(store.uri)
    mistique.get(opened, KEY)
    capture, node = opened.catalog.find(KEY)
    lost = opened.worth.demand(capture, node.name).saved_seconds
    assert road(opened, columns=[1]) == "memory"
    demand = opened.worth.demand(capture, node.name)
    assert (demand.n_queries, demand.saved_seconds) == (2, lost)


def test_all_rows_are_run_for_the_memory_once_some_of_them_were_run_often(store: Store, homes: pd.DataFrame) -> None:
    pipe = fitted(store, homes)
    opened = mistique.open(store.uri, gamma_min=1e30)  # whatever is stored would be too large
    many_questions(opened)
    answer = mistique.get(opened, KEY, rows=[1, 2])
    assert (answer.plan.chosen.road, answer.plan.stored) == ("recompute", "")
    answer = mistique.get(opened, KEY, rows=[7, 900])
    assert answer.plan.chosen.road == "memory"
    assert np.array_equal(answer.values, pipe[:2].transform(homes[COLUMNS])[[7, 900]])
