"""Slices against loops and SciPy: their figures, their order, what is found and what is not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mistique
from mistique.errors import QueryError
from mistique.queries.cuts import cut
from mistique.queries.significance import adjusted, student_tail, welch_p
from mistique.store import Store
from tests.capturing import capturing
from tests.reference import diagnosis as oracle

KEY = "lab/model@1/train/prediction"


def predicted(
    store: Store, given: object, errors: np.ndarray, *, labels: object = None, target: np.ndarray | None = None
) -> str:
    """A model whose absolute errors over `given` are these; the key of its predictions."""
    truth = np.linspace(-5.0, 5.0, len(errors)) if target is None else target
    with capturing(store) as capture:
        capture.set_labels(labels)
        capture.add("input", given, role="input")
        capture.add("target", truth, role="target")
        capture.add("prediction", truth + errors, role="prediction")
    return KEY


def three_columns(n: int = 2_000) -> tuple[pd.DataFrame, np.random.Generator]:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "zone": pd.array(rng.choice(["north", "south", "west"], n), dtype="str"),
            "rooms": rng.integers(1, 5, n),
            "is_new": rng.random(n) < 0.3,
        }
    )
    return frame, rng


def test_every_slice_has_the_rows_and_the_error_of_a_plain_loop(store: Store) -> None:
    frame, rng = three_columns()
    errors = rng.exponential(size=len(frame))
    answer = mistique.slices(store, predicted(store, frame, errors), k=1_000, min_rows=2)
    absolute = np.abs(errors).tolist()
    expected = oracle.slice_means(absolute, {name: frame[name].tolist() for name in frame})
    assert len(answer) > 15
    for condition, (n, error, others, effect, p) in zip(answer.conditions, answer.values.tolist(), strict=True):
        n_expected, mean_expected = expected[frozenset(condition)]
        assert (n, error) == (n_expected, pytest.approx(mean_expected))
        assert others == pytest.approx((sum(absolute) - n * error) / (len(frame) - n))
        assert effect > 0
        assert 0 <= p <= 1
    assert answer.n_looks == len(expected)
    assert answer.overall == pytest.approx(oracle.mean(absolute))


def test_test_and_effect_size_of_a_single_column_are_those_of_scipy(store: Store) -> None:
    frame, rng = three_columns()
    errors = rng.exponential(size=len(frame)) * np.where(frame["rooms"] == 2, 1.2, 1.0)
    answer = mistique.slices(store, predicted(store, frame[["rooms"]], errors), k=4)
    inside = (frame["rooms"] == 2).to_numpy()
    expected = stats.ttest_ind(errors[inside], errors[~inside], equal_var=False, alternative="greater").pvalue
    row = answer.values[answer.rows.tolist().index("rooms 2")]
    assert row[4] == pytest.approx(min(1.0, 4 * expected), rel=1e-9)
    spread = errors[inside].var(ddof=1) + errors[~inside].var(ddof=1)
    assert row[3] == pytest.approx(math.sqrt(2) * (errors[inside].mean() - errors[~inside].mean()) / math.sqrt(spread))
    error = errors[inside].std(ddof=1) / math.sqrt(inside.sum())
    assert answer.standard_errors[answer.rows.tolist().index("rooms 2")] == pytest.approx(error)


def test_a_planted_pair_is_found_first_and_its_rows_are_told(store: Store) -> None:
    frame, rng = three_columns()
    planted = ((frame["zone"] == "west") & (frame["rooms"] == 3)).to_numpy()
    errors = rng.exponential(size=len(frame)) + 3.0 * planted
    labels = [f"r{i}" for i in range(len(frame))]
    answer = mistique.slices(store, predicted(store, frame, errors, labels=labels))
    assert answer.conditions[0] == (("zone", "west"), ("rooms", "3"))
    assert answer.members(0).tolist() == [label for label, is_in in zip(labels, planted, strict=True) if is_in]
    assert answer.values[0, 4] < 1e-6
    with pytest.raises(QueryError, match="number of a slice"):
        answer.members(99)


def test_a_pair_is_not_found_for_what_one_of_its_columns_explains(store: Store) -> None:
    frame, rng = three_columns()
    errors = rng.exponential(size=len(frame)) + 3.0 * (frame["zone"] == "west")
    answer = mistique.slices(store, predicted(store, frame, errors))
    found = [condition for condition, row in zip(answer.conditions, answer.values, strict=True) if row[4] < 0.05]
    assert found == [(("zone", "west"),)]


@pytest.mark.parametrize("correction", ["holm", "benjamini-hochberg"])
def test_errors_that_no_column_explains_give_no_finds(store: Store, correction: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(3_000, 8)), columns=[f"c{i}" for i in range(8)])
    key = predicted(store, frame, rng.exponential(size=3_000))
    answer = mistique.slices(store, key, correction=correction)
    assert answer.n_significant == 0
    assert len(answer) == 10
    assert (np.diff(answer.values[:, 4]) >= 0).all()  # then they are in the order of p


def test_classes_and_class_scores_are_wrong_or_right(store: Store) -> None:
    rng = np.random.default_rng(0)
    side = np.array(["left", "right"])[rng.integers(0, 2, 600)]
    target = rng.integers(0, 3, 600)
    said = np.where((side == "left") & (rng.random(600) < 0.6), (target + 1) % 3, target)
    for model, values, truth in (
        ("lab/classes", said, target),
        ("lab/scores", np.eye(3)[said], target),
        ("lab/one-hot", np.eye(3)[said], np.eye(3)[target]),
    ):
        with capturing(store, model=model) as capture:
            capture.add("input", pd.DataFrame({"side": pd.array(side, dtype="str")}), role="input")
            capture.append("target", truth, role="target")
            capture.append("prediction", values, role="prediction")
        answer = mistique.slices(store, f"{model}@latest/train")
        assert (answer.measure, answer.rows[0]) == ("error rate", "side left")
        assert answer.values[0, 1] == pytest.approx((said != target)[side == "left"].mean())
        assert answer.values[0, 2] == 0


@pytest.mark.parametrize(
    ("loss", "measure", "expected"),
    [
        ("squared", "squared error", lambda e: e**2),
        (lambda prediction, target: np.abs(prediction - target) > 1, "<lambda>", lambda e: (np.abs(e) > 1) * 1.0),
        (np.arange(400.0), "loss", lambda e: np.arange(400.0)),
    ],
)
def test_a_loss_can_be_given(store: Store, loss: object, measure: str, expected: object) -> None:
    errors = np.random.default_rng(0).normal(size=400)
    frame = pd.DataFrame({"half": np.arange(400) // 200})
    answer = mistique.slices(store, predicted(store, frame, errors), loss=loss)
    assert answer.measure == measure
    assert answer.overall == pytest.approx(expected(errors).mean())  # type: ignore[operator]


def test_images_are_sliced_by_the_target_or_by_a_frame_of_their_facts(store: Store) -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, 800)
    night = rng.random(800) < 0.4
    is_wrong = (target == 2) & night
    with capturing(store) as capture:
        capture.append("input", rng.random((800, 6, 6, 1), np.float32), role="input")
        capture.append("target", target, role="target")
        capture.append("prediction", np.eye(4, dtype=np.float32)[np.where(is_wrong, 0, target)], role="prediction")
    assert mistique.slices(store, KEY).rows[0] == "target 2"
    by = pd.DataFrame({"night": night, "target": target})
    worst = mistique.slices(store, KEY, by=by)
    assert (worst.rows[0], worst.values[0, 1]) == ("night True, target 2", 1.0)
    # It is always wrong and the others never: rounding is no spread that an effect could be measured by.
    assert worst.values[0, 3] == np.inf
    assert "no spread" in repr(worst)
    assert worst.members(0).tolist() == np.flatnonzero(is_wrong).tolist()


def test_rows_without_a_finite_error_are_in_no_slice_and_said(store: Store) -> None:
    errors = np.random.default_rng(0).normal(size=400)
    errors[:7] = np.nan
    frame = pd.DataFrame({"half": np.arange(400) // 200})
    answer = mistique.slices(store, predicted(store, frame, errors))
    assert answer.values[:, 0].max() in (193, 200)
    assert "7 rows have no finite error" in repr(answer)


def test_with_many_columns_pairs_are_of_some_and_all_count_as_looks(store: Store) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 2, (300, 40)), columns=[f"c{i}" for i in range(40)])
    answer = mistique.slices(store, predicted(store, frame, rng.exponential(size=300)), min_rows=5)
    assert answer.n_looks == 40 * 2 + 40 * 39 // 2 * 4
    assert "30 columns (of 40)" in " ".join(repr(answer).split())


BAD = {
    "no prediction": ({}, "stage", "is no prediction"),
    "no such column": ({"by": "sqft"}, "prediction", "neither a column of the input"),
    "a frame of other rows": ({"by": {"a": np.arange(3)}}, "prediction", "expected a value for each of 90 rows"),
    "an empty frame": ({"by": {}}, "prediction", "at least one column"),
    "an array": ({"by": np.arange(90)}, "prediction", "names, or a frame or mapping"),
    "no such loss": ({"loss": "hinge"}, "prediction", "loss: expected one of absolute, squared, error"),
    "a loss of other rows": ({"loss": np.zeros(4)}, "prediction", "a number for each of 90 rows"),
    "no such correction": ({"correction": "none"}, "prediction", "correction: expected"),
    "no slices": ({"k": 0}, "prediction", "k: expected"),
    "one bin": ({"bins": 1}, "prediction", "bins: expected a number, at least 2"),
    "too few rows": ({"min_rows": 50}, "prediction", "slices of 50 need twice as many"),
}


@pytest.mark.parametrize(("options", "name", "says"), BAD.values(), ids=BAD.keys())
def test_a_question_that_makes_no_sense_says_what_was_expected(
    store: Store, options: dict[str, object], name: str, says: str
) -> None:
    with capturing(store) as capture:
        for stage, role in (("input", "input"), ("stage", "stage"), ("prediction", "prediction"), ("target", "target")):
            capture.add(stage, np.arange(90.0), role=role)
    with pytest.raises(QueryError, match=says):
        mistique.slices(store, f"lab/model@1/train/{name}", **options)  # type: ignore[arg-type]


def test_predictions_without_a_target_need_their_errors(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", np.arange(90) % 3, role="input")
        capture.add("prediction", np.arange(90.0), role="prediction")
    with pytest.raises(QueryError, match="has no target"):
        mistique.slices(store, KEY)
    errors = (np.arange(90) % 3 == 1) + np.arange(90) / 900
    assert mistique.slices(store, KEY, loss=errors, min_rows=10).rows[0] == "0 1"


def test_students_tail_is_that_of_scipy() -> None:
    t = np.linspace(-30, 30, 121)
    for freedom in (1.0, 1.7, 4.0, 33.3, 1e3, 1e6):
        np.testing.assert_allclose(student_tail(t, np.full_like(t, freedom)), stats.t.sf(t, freedom), rtol=1e-7)


def test_welch_without_spread_or_rows_is_certain_or_nothing() -> None:
    ones = np.ones(4)
    p = welch_p(
        np.array([2.0, 1.0, 1.0, 2.0]),
        0 * ones,
        np.array([9, 9, 9, 1]),
        other_mean=ones,
        other_variance=0 * ones,
        other_n=9 * ones,
    )
    assert p.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_corrections_are_those_of_their_definitions() -> None:
    p = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(adjusted(p), oracle.holm(p.tolist(), 50))
    np.testing.assert_allclose(adjusted(p, n_looks=70), oracle.holm(p.tolist(), 70))
    np.testing.assert_allclose(adjusted(p, method="benjamini-hochberg"), stats.false_discovery_control(p))
    padded = stats.false_discovery_control(np.concatenate([p, np.ones(20)]))[:50]
    np.testing.assert_allclose(adjusted(p, method="benjamini-hochberg", n_looks=70), padded)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (np.r_[np.zeros(70), np.arange(1900.0, 1930.0)], ["0", "1900 to 1904", "1905 to 1929"]),
        (np.r_[np.arange(30.0), np.full(70, 99.0)], ["0 to 24", "25 to 29", "99"]),
        (np.array([1.5, np.nan, 2.5]), ["1.5", "2.5", "null"]),
        (np.array([np.nan] * 3), ["null"]),
        (np.array([True, False]), ["False", "True"]),
        (np.r_[-np.inf, np.arange(1.0, 40.0)], ["-inf to 9", "10 to 19", "20 to 29", "30 to 39"]),
        (np.arange("2020-01-01", "2020-02-10", dtype="M8[D]"), None),
        (np.array(["a", None, "b"], object), ["a", "b", "null"]),
        (np.array([f"t{i:03}" for i in range(80)] + ["t079"] * 3), None),
    ],
)
def test_a_column_is_cut_into_groups_that_hold_its_rows(values: np.ndarray, names: list[str] | None) -> None:
    codes, found = cut(values)
    assert names is None or found == names
    assert codes.max() == len(found) - 1
    assert set(codes.tolist()) - {-1} == set(range(len(found)))
    if values.dtype.kind in "fM":
        known = values[codes < len(found) - found.count("null")]
        order = codes[codes < len(found) - found.count("null")][np.argsort(known)]
        assert (np.diff(order) >= 0).all()
