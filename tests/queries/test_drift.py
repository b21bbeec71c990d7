"""Drift: its distances against SciPy and a plain loop, and the stage at which training and serving part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mistique
from mistique.errors import IntermediateNotFoundError, QueryError
from mistique.queries.two_samples import distance
from mistique.store import Store
from tests.capturing import capturing, put, put_layer
from tests.reference import diagnosis as oracle

NUMBERS = st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.5, -3.0, 1e9, np.inf, -np.inf]), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(first=NUMBERS, second=NUMBERS)
def test_ks_and_psi_are_those_of_plain_loops_with_ties_and_infinities(first: list[float], second: list[float]) -> None:
    found = distance(np.array(first), np.array(second))
    assert found.ks == pytest.approx(oracle.kolmogorov_smirnov(first, second))
    assert found.psi == pytest.approx(oracle.psi(first, second))


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("digits", [1, 9])
def test_ks_is_that_of_scipy_and_p_near_it(shift: float, digits: int) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=3_000).round(digits), rng.normal(shift, size=2_000).round(digits)
    expected = stats.ks_2samp(first, second, method="asymp")
    found = distance(first, second)
    assert found.ks == pytest.approx(expected.statistic, rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=0.05, abs=1e-12)


def test_p_of_texts_is_near_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.choice(list("abcd"), 900, p=[0.4, 0.3, 0.2, 0.1]), rng.choice(list("abcd"), 700)
    table = [[(side == name).sum() for name in "abcd"] for side in (first, second)]
    near = distance(first, rng.choice(list("abcd"), 700, p=[0.38, 0.3, 0.2, 0.12]))
    assert 0.01 < near.p <= 1
    assert distance(first, second).p == pytest.approx(stats.chi2_contingency(table).pvalue, rel=0.5)
    assert np.isnan(distance(first, second).ks)


def test_what_is_missing_more_often_drifts_though_its_values_do_not() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=2_000), rng.normal(size=2_000)
    second[:400] = np.nan
    found = distance(first, second)
    assert found.ks < 0.05
    assert found.psi > 0.5
    assert found.p < 1e-6


@pytest.mark.parametrize(
    ("first", "second", "psi_is_large"),
    [
        (np.zeros(100), np.zeros(50), False),
        (np.zeros(100), np.ones(100), True),
        (np.full(100, np.nan), np.full(100, np.nan), False),
        (np.full(100, np.nan), np.zeros(100), True),
        (np.array(["a"] * 100), np.array(["b"] * 100), True),
        (np.array([True, False] * 50), np.array([True, False] * 50), False),
        (np.array(["2020-01-01"] * 100, "M8[D]"), np.array(["2020-02-01"] * 99 + ["NaT"], "M8[ns]"), True),
    ],
)
def test_constant_and_missing_columns_have_distances(first: np.ndarray, second: np.ndarray, psi_is_large: bool) -> None:
    found = distance(first, second)
    assert (found.psi > 1) == psi_is_large
    assert 0 <= found.p <= 1
    assert (found.p < 0.01) == psi_is_large


def skewed(store: Store) -> tuple[str, str]:
    """Training, and serving whose scaler had another mean for one column; their keys."""
    rng = np.random.default_rng(0)
    for dataset, moved in (("train", 0.0), ("serving", 1.0)):
        given = pd.DataFrame({"sqft": rng.normal(size=900), "rooms": rng.integers(1, 5, 900)})
        with capturing(store, dataset=dataset, run_id="one") as capture:
            capture.add("input", given, role="input")
            capture.add("scale", given.assign(sqft=given["sqft"] + moved), parents=("input",))
            capture.add("prediction", given["sqft"] + moved, parents=("scale",), role="prediction")
            capture.add("target", given["sqft"].to_numpy() + 2.0 * (dataset == "serving"), role="target")
    return "lab/model@1/train", "lab/model@1/serving"


def test_the_stage_where_training_and_serving_part_is_found(store: Store) -> None:
    key, other = skewed(store)
    answer = mistique.drift(store, key, other=other)
    assert answer.parted_at == "scale"
    assert answer.stage_names == ["input", "scale", "prediction", "target"]
    assert answer.rows[answer.is_drifted].tolist() == ["scale/sqft", "prediction/sqft", "target/0"]
    assert "they part at scale" in " ".join(repr(answer).split())
    assert mistique.drift(store, key, other=key).parted_at is None


def test_a_target_that_drifts_alone_is_no_stage_at_which_the_model_parts(store: Store) -> None:
    skewed(store)
    for dataset, moved in (("train", 0.0), ("other", 3.0)):
        with capturing(store, dataset=dataset, model="lab/two", run_id="two") as capture:
            capture.add("input", np.arange(100.0), role="input")
            capture.add("target", np.arange(100.0) + 100 * moved, role="target")
    answer = mistique.drift(store, "lab/two@1/train", other="lab/two@1/other")
    assert answer.is_drifted.tolist() == [False, True]
    assert answer.parted_at is None


def test_one_intermediate_is_compared_column_by_column_worst_first(store: Store) -> None:
    key, other = skewed(store)
    answer = mistique.drift(store, f"{key}/scale", other=f"{other}/scale")
    assert answer.rows.tolist() == ["sqft", "rooms"]
    left, right = (mistique.get(store, f"{k}/scale", columns="sqft").values[:, 0] for k in (key, other))
    assert answer.values[0, 0] == pytest.approx(stats.ks_2samp(left, right).statistic)
    assert answer.values[0, 2] == pytest.approx((right.mean() - left.mean()) / left.std())
    assert mistique.drift(store, f"{key}/scale", other=f"{other}/scale", columns=["rooms"]).rows.tolist() == ["rooms"]


def test_a_layer_is_compared_by_the_means_of_its_units(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistique.queries.portions.CELLS_AT_ONCE", 1)
    rng = np.random.default_rng(0)
    maps = rng.random((1_100, 3, 4, 5), np.float32)
    key = put_layer(store, maps)
    moved = maps.copy()
    moved[..., 2] += 0.2
    answer = mistique.drift(store, key, other=put_layer(store, moved))
    assert answer.rows[0] == "unit 2"
    assert answer.is_drifted.tolist() == [True, False, False, False, False]
    expected = stats.ks_2samp(maps[..., 2].mean(axis=(1, 2)), moved[..., 2].mean(axis=(1, 2))).statistic
    assert answer.values[0, 0] == pytest.approx(expected)
    assert answer.plan.n_rows == 2 * 1_100
    assert mistique.drift(store, key, other=key, unit=[3, 1]).rows.tolist() == ["unit 3", "unit 1"]


def test_steps_of_quantized_values_are_no_drift(store: Store) -> None:
    rng = np.random.default_rng(0)
    keys = []
    for dataset, largest in (("train", 1.0), ("valid", 1.37)):
        values = np.append(rng.random((999, 3)), [[largest] * 3], axis=0).astype(np.float32)
        keys.append(put_layer(store, values, codec=mistique.Power(bits=3), dataset=dataset))
    answer = mistique.drift(store, keys[0], other=keys[1])
    assert answer.values[:, 0].min() > 0.1
    assert not answer.is_drifted.any()
    assert "3 more may have" in repr(answer)
    moved = put_layer(store, rng.random((1_000, 3)).astype(np.float32) + 1, codec="power", dataset="moved")
    assert mistique.drift(store, keys[0], other=moved).is_drifted.all()


@settings(max_examples=100, deadline=None)
@given(first=NUMBERS, second=NUMBERS, seed=st.integers(0, 99))
def test_the_certain_distance_is_none_that_errors_within_the_bounds_could_undercut(
    first: list[float], second: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.array(first), np.array(second)
    read = a + rng.uniform(-0.5, 0.5, len(a)), b + rng.uniform(-0.25, 0.25, len(b))
    assert distance(*read, bounds=(0.5, 0.25)).certain_ks <= oracle.kolmogorov_smirnov(first, second) + 1e-12


def test_what_only_one_side_has_is_said(store: Store) -> None:
    one = put(store, pd.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0)}), model="lab/a")
    two = put(store, pd.DataFrame({"a": np.arange(50.0), "c": np.arange(50.0)}), model="lab/b")
    assert "only one of them has b, c" in repr(mistique.drift(store, one, other=two))


def test_a_question_that_makes_no_sense_says_what_was_expected(store: Store) -> None:
    key, other = skewed(store)
    maps = put_layer(store, np.zeros((4, 2, 2, 3), np.float32), model="lab/net")
    with pytest.raises(QueryError, match="two intermediates or two datasets"):
        mistique.drift(store, key, other=f"{other}/scale")
    with pytest.raises(QueryError, match="have no column in common"):
        mistique.drift(store, f"{key}/input", other=maps)
    with pytest.raises(QueryError, match="no stage in common"):
        mistique.drift(store, key, other="lab/net@1/train")
    with pytest.raises(QueryError, match="bins: expected"):
        mistique.drift(store, key, other=other, bins=1)
    with pytest.raises(QueryError, match="are of one intermediate"):
        mistique.drift(store, key, other=other, columns="sqft")
    with pytest.raises(QueryError, match="compared by units"):
        mistique.drift(store, maps, other=maps, columns=0)
    with pytest.raises(IntermediateNotFoundError, match="nearest: train"):
        mistique.drift(store, "lab/model@1/trian", other=other)
