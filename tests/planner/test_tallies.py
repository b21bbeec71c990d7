"""What was counted over all rows is kept, and answers the same question again with the same figures."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import mistique
from mistique.errors import BudgetError, NoPlanError
from mistique.planner.budget import in_use_nbytes
from mistique.planner.plan import SUMMARY
from mistique.planner.tallies import MAX_TALLY_SHARE
from mistique.queries.disk_usage import disk_usage
from mistique.schema import Tally
from mistique.sklearn import Pipeline
from mistique.storage.record_bodies import packed_figures
from mistique.storage.usage import Observation
from mistique.store import Store
from tests.capturing import put_layer

if TYPE_CHECKING:
    import pandas as pd

CODECS = ["raw", "power", "kbit"]


def keeps(store: Store) -> Store:
    """The store, which knows that keeping figures and reading them takes no time: what fits is kept, and answers."""
    for _ in range(64):
        store.calibration.add(Observation("write", SUMMARY, (1.0, 8.0), 1e-6, 1e-6))
        store.calibration.add(Observation("summary", "", (1.0, 8.0), 1e-6, 1e-6))
    return store


def maps(seed: int = 0) -> np.ndarray:
    found = np.maximum(np.random.default_rng(seed).normal(size=(1_500, 6, 6, 9)), 0).astype(np.float32)
    found[..., 3] = 0
    return found


def roads(answer: mistique.queries.answer.Answer) -> list[str]:
    return [candidate.road for candidate in answer.plan.candidates]


@pytest.mark.parametrize("codec", CODECS)
def test_the_second_time_the_counts_that_were_kept_answer(store: Store, codec: str) -> None:
    values, key = maps(), put_layer(store, maps(), codec=codec)
    first = mistique.dead_units(keeps(store), key)
    assert first.plan.chosen.road == "read"
    assert "kept values above 0.0 of layer" in first.plan.stored
    with mistique.open(store.uri, mode="r") as reader:
        again = mistique.dead_units(keeps(reader), key)
        other = mistique.dead_units(reader, key, threshold=0.5)
    assert (again.plan.chosen.road, other.plan.chosen.road) == ("summary", "read")
    (summary,) = [c for c in again.plan.candidates if c.road == "summary"]
    assert 0 < summary.predicted_seconds < np.inf
    assert again.plan.read_nbytes == summary.predicted_nbytes < 200
    assert again.max_abs_error == first.max_abs_error
    np.testing.assert_array_equal(again.firing[0], (values > 0).mean(axis=(0, 1, 2)))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_sums_by_group_are_those_of_every_road_within_the_bounds(
    layers: tuple[Store, dict[str, str]], data: st.DataObject
) -> None:
    store, keys = layers
    keeps(store)
    codec, n_groups = data.draw(st.sampled_from(CODECS)), data.draw(st.integers(1, 3))
    reduce, exact = data.draw(st.sampled_from(["mean", "max", "none"])), data.draw(st.booleans())
    unit = data.draw(st.sampled_from([None, [1], [0, 8]]))
    by = np.arange(1_500) * n_groups // 1_500
    asked = {"by": by, "reduce": reduce, "unit": unit, "exact": exact}
    if exact and codec != "raw":
        with pytest.raises(NoPlanError):
            mistique.class_means(store, keys[codec], **asked)
        return
    answers = [mistique.class_means(store, keys[codec], **asked) for _ in range(2)]
    values = maps().reshape(1_500, 36, 9).astype(np.float64)[:, :, unit if unit is not None else slice(None)]
    if reduce == "none":
        values = values.transpose(0, 2, 1).reshape(1_500, 1, -1)
    reduced = values.max(axis=1) if reduce == "max" else values.mean(axis=1)
    expected = np.stack([reduced[by == group].mean(axis=0) for group in range(n_groups)])
    for answer in answers:
        assert np.abs(answer.values - expected).max() <= answer.max_abs_error + 1e-6
    np.testing.assert_array_equal(answers[0].values, answers[1].values)
    assert (answers[1].plan.chosen.road == "summary") == (answers[0].plan.stored != "" or SUMMARY in roads(answers[0]))


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, str]]:
    store = keeps(mistique.open(tmp_path_factory.mktemp("tallies") / "s.mistique"))
    return store, {codec: put_layer(store, maps(), codec=codec, model=f"lab/{codec}") for codec in CODECS}


def test_what_a_pipeline_is_run_again_for_and_what_was_kept_are_alike(store: Store, all_homes: pd.DataFrame) -> None:
    store = mistique.open(store.uri, memory_nbytes=0)
    X, y = all_homes[["sqft_living", "grade", "lat"]].iloc[:20_000], all_homes["price"].iloc[:20_000]
    pipe = Pipeline([("scale", StandardScaler()), ("poly", PolynomialFeatures(2)), ("pca", PCA(4)), ("ridge", Ridge())])
    pipe.fit(X, y)
    for keep in ("all", "none"):
        mistique.sklearn.capture(pipe, X, y, store=store, dataset=keep, model="homes/m", keep=keep)
    expected = pipe[:-1].transform(X)
    by = (np.arange(len(X)) % 3).astype(str)
    means = np.stack([expected[by == group].mean(axis=0) for group in "012"])
    ran = set()
    for dataset in ("all", "none", "all", "none"):
        answer = mistique.class_means(keeps(store), f"homes/m@1/{dataset}/pca", by=by)
        np.testing.assert_allclose(answer.values, means, rtol=0, atol=answer.max_abs_error + 1e-9)
        ran.add(answer.plan.chosen.road)
    assert "summary" in ran
    assert len(ran) > 1


def test_a_quantized_sum_answers_nothing_exact_and_an_exact_one_answers_all(store: Store) -> None:
    key = put_layer(store, maps(), codec="power")
    mistique.dead_units(keeps(store), key)
    with pytest.raises(NoPlanError, match="summary: it is of values within"):
        mistique.dead_units(store, key, exact=True)
    exact = put_layer(store, maps(), codec="raw", model="lab/exact")
    mistique.dead_units(store, exact, exact=True)
    assert mistique.dead_units(store, exact, exact=True).plan.chosen.road == "summary"
    assert mistique.dead_units(store, exact).plan.chosen.road == "summary"


def test_a_capture_that_replaces_another_knows_nothing_of_its_counts(store: Store) -> None:
    key = put_layer(store, maps(), run_id="a")
    mistique.dead_units(keeps(store), key)
    put_layer(store, -maps(), run_id="a")
    answer = mistique.dead_units(store, key)
    assert answer.plan.chosen.road == "read"
    assert len(answer.never[0]) == 9


def test_what_was_dropped_still_has_its_counts(store: Store) -> None:
    key = put_layer(store, maps())
    first = mistique.dead_units(keeps(store), key)
    store.drop(key)
    store.compact(grace_seconds=0)
    again = mistique.dead_units(store, key)
    assert again.plan.chosen.road == "summary"
    np.testing.assert_array_equal(again.firing[0], first.firing[0])
    with pytest.raises(NoPlanError):
        mistique.dead_units(store, key, threshold=1.0)


def test_all_that_is_kept_takes_no_more_than_a_hundredth_and_du_shows_it(store: Store) -> None:
    key = put_layer(store, maps())
    keeps(store)
    for threshold in range(14):
        mistique.dead_units(store, key, threshold=threshold / 10)
    capture, node = store.catalog.find(key)
    assert 3 < len(capture.tallies) < 14
    (used,) = disk_usage(store).used
    assert 0 < used.tally_nbytes <= MAX_TALLY_SHARE * node.stored_nbytes
    small = put_layer(store, maps()[:20], model="lab/small")
    assert not mistique.dead_units(store, small).plan.stored


@pytest.mark.parametrize("content", [b"", b"no frame"])
def test_counts_that_are_damaged_are_made_again_and_a_check_finds_them(store: Store, content: bytes) -> None:
    key = put_layer(store, maps())
    capture, _ = store.catalog.find(key)
    store.catalog.add_tally(capture, Tally("layer", "values above 0.0", (1, 9), 0.0, 40), content)
    assert [damage.kind for damage in store.check().damages] == ["records"]
    answer = mistique.dead_units(keeps(store), key)
    assert answer.never[0].tolist() == [3]
    assert answer.plan.chosen.road == "read"
    assert mistique.dead_units(store, key).plan.chosen.road == "summary"
    store.check(repair=True)
    assert store.check().is_whole


def test_counts_of_another_shape_are_not_believed(store: Store) -> None:
    key = put_layer(store, maps())
    capture, _ = store.catalog.find(key)
    wrong = Tally("layer", "values above 0.0", (1, 5), 0.0, 40)
    store.catalog.add_tally(capture, wrong, packed_figures(np.zeros((1, 5))))
    assert mistique.dead_units(store, key).plan.chosen.road == "read"


def test_a_store_that_is_only_looked_at_or_learns_nothing_keeps_nothing(store: Store) -> None:
    key = put_layer(store, maps())
    with mistique.open(store.uri, mode="r") as other:
        assert not mistique.dead_units(keeps(other), key).plan.stored
    with mistique.open(store.uri, gamma_min=float("inf")) as other:
        assert not mistique.dead_units(keeps(other), key).plan.stored


def test_a_budget_counts_what_was_kept_and_keeps_nothing_more_where_there_is_no_room(store: Store) -> None:
    key = put_layer(store, maps(), codec="raw")
    before = in_use_nbytes(store)
    assert "kept" in mistique.dead_units(keeps(store), key).plan.stored
    full = in_use_nbytes(store)
    assert full == before + disk_usage(store).tally_nbytes
    room = ceil(full)  # a chunk takes its share of the bytes of its segment, which is no whole number
    assert store.evict(max_nbytes=room) == []
    with pytest.raises(BudgetError, match=r"last road|pinned|cannot be recomputed"):
        store.evict(max_nbytes=room - 1)
    with mistique.open(store.uri, max_nbytes=room) as bounded:
        answer = mistique.dead_units(keeps(bounded), key, threshold=0.5)
        assert (answer.plan.chosen.road, answer.plan.stored) == ("read", "")
        np.testing.assert_array_equal(answer.firing[0], (maps() > 0.5).mean(axis=(0, 1, 2)))
        assert in_use_nbytes(bounded) == full
    with mistique.open(store.uri, max_nbytes=room + 1_000) as roomy:
        assert "kept" in mistique.dead_units(keeps(roomy), key, threshold=0.5).plan.stored
        assert in_use_nbytes(roomy) > full
