"""Each question against a plain loop over plain values, its bad input, and how an answer shows itself."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mistique
from mistique.errors import IntermediateNotFoundError, QueryError
from mistique.store import Store
from tests.capturing import capturing, put, put_layer
from tests.reference import diagnosis as oracle

few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Few different values, so that ties come up, and all the odd ones.
ODD = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.5, -3.0, math.nan, math.inf, -math.inf])
COLUMN = st.lists(ODD, min_size=1, max_size=40)


@few
@given(values=COLUMN, k=st.integers(1, 50), largest=st.booleans())
def test_topk_equals_the_oracle_with_ties_nan_and_inf(store: Store, values: list[float], k: int, largest: bool) -> None:
    answer = mistique.topk(store, put(store, np.array(values)), k=k, largest=largest)
    expected = oracle.top_rows(values, k, largest=largest)
    assert answer.rows.tolist() == answer.positions.tolist() == expected
    np.testing.assert_array_equal(answer.values, [values[i] for i in expected])


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_topk_of_a_unit_reduces_its_positions(store: Store, reduce: str, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 50, (200, 3, 4, 5)).astype(dtype)
    key = put_layer(store, values)
    scores = getattr(values[..., 2].reshape(200, -1).astype(float), reduce)(axis=1).tolist()
    answer = mistique.topk(store, key, unit=2, k=7, reduce=reduce)
    assert answer.rows.tolist() == oracle.top_rows(scores, 7)


def test_topk_says_where_on_the_map_the_maximum_is(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(200, 3, 4, 5)).astype(np.float32)
    answer = mistique.topk(store, put_layer(store, values), unit=2, k=7)
    assert answer.places is not None
    for row, value, (y, x) in zip(answer.rows, answer.values, answer.places, strict=True):
        assert values[row, y, x, 2] == value == values[row, ..., 2].max()
    assert ",".join(map(str, answer.places[0])) in repr(answer)
    for asked in ({"reduce": "mean"}, {"unit": [1, 2]}):
        assert mistique.topk(store, answer.key, **{"unit": 2, **asked}).places is None


@pytest.mark.parametrize("combine", ["sum", "mean", "max", "euclidean", "manhattan"])
@pytest.mark.parametrize("of", ["units", "columns"])
def test_topk_of_a_group_combines_one_number_of_each(store: Store, combine: str, of: str) -> None:
    values = np.random.default_rng(0).integers(-9, 9, (200, 2, 2, 5)).astype(np.float32)
    key = (
        put_layer(store, values) if of == "units" else put(store, pd.DataFrame(values[:, 0, 0], columns=list("abcde")))
    )
    asked = {"unit": [3, 1]} if of == "units" else {"columns": ["d", "b"]}
    numbers = values[..., [3, 1]].max(axis=(1, 2)) if of == "units" else values[:, 0, 0, [3, 1]]
    zero = [0.0, 0.0]
    scores = [
        {"sum": a + b, "mean": (a + b) / 2, "max": max(a, b)}[combine]
        if combine in ("sum", "mean", "max")
        else oracle.distance([a, b], zero, combine)
        for a, b in numbers.astype(float).tolist()
    ]
    answer = mistique.topk(store, key, k=9, combine=combine, **asked)
    np.testing.assert_allclose(answer.values, sorted(scores, reverse=True)[:9])
    np.testing.assert_allclose(answer.values, [scores[i] for i in answer.rows])
    assert combine in answer.columns[0]


@pytest.mark.parametrize("combine", ["sum", "mean", "max", "euclidean", "manhattan"])
def test_the_bound_of_a_group_is_that_of_its_combination(store: Store, combine: str) -> None:
    values = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    exact, quantized = put_layer(store, values), put_layer(store, values, model="lab/q", codec="power")
    asked = {"unit": [0, 2, 3, 5], "k": 300, "combine": combine}
    true, found = (mistique.topk(store, key, **asked) for key in (exact, quantized))
    error = np.abs(true.values[np.argsort(true.rows)] - found.values[np.argsort(found.rows)])
    assert 0 < error.max() <= found.max_abs_error


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_topk_of_the_units_that_are_largest_in_a_row(store: Store, reduce: str) -> None:
    values = np.random.default_rng(0).normal(size=(200, 2, 2, 6)).astype(np.float32)
    key = put_layer(store, values)
    of_row = getattr(values[-3].reshape(4, 6), reduce)(axis=0)
    units = np.argsort(-of_row)[:2].tolist()
    by_row = mistique.topk(store, key, position=-3, n_units=2, reduce=reduce)
    by_unit = mistique.topk(store, key, unit=units, reduce=reduce)
    assert by_row.columns == by_unit.columns
    assert (
        by_row.rows.tolist()
        == by_unit.rows.tolist()
        == mistique.topk(store, key, row=197, n_units=2, reduce=reduce).rows.tolist()
    )


def test_topk_of_the_columns_that_are_largest_in_a_row_leaves_out_texts(store: Store) -> None:
    frame = pd.DataFrame({"name": ["a", "b", "c"], "x": [1.0, 5, 2], "y": [9.0, 4, 3]})
    answer = mistique.topk(store, put(store, frame), row=1, n_units=1, k=2)
    assert (answer.columns, answer.rows.tolist()) == (("x",), [1, 2])


def test_topk_of_a_named_column_gives_labels(store: Store) -> None:
    frame = pd.DataFrame({"a": [1, 3, 2], "b": [9, 7, 8]}, index=["x", "y", "z"])
    answer = mistique.topk(store, put(store, frame, labels=frame.index), column="b", k=2)
    assert answer.rows.tolist() == ["x", "z"]
    assert answer.to_frame()["b"].tolist() == [9, 8]


def test_topk_shows_the_inputs_of_its_rows(store: Store) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 1), np.uint8)
    with capturing(store) as capture:
        capture.append("input", images, role="input")
        capture.append("unit", np.arange(20.0)[:, None])
    answer = mistique.topk(store, "lab/model@1/train/unit", k=3)
    assert answer.examples().tolist() == images[[19, 18, 17]].tolist()


@few
@given(values=COLUMN, n_bins=st.integers(1, 12))
def test_col_dist_equals_the_oracle_with_nan_and_inf(store: Store, values: list[float], n_bins: int) -> None:
    answer = mistique.col_dist(store, put(store, np.array(values)), bins=n_bins)
    assert answer.edges is not None
    assert answer.values.tolist() == [oracle.counts_between(values, answer.edges.tolist())]
    n_finite = sum(map(math.isfinite, values))
    assert answer.values.sum() == n_finite
    assert answer.n_not_finite.tolist() == [len(values) - n_finite]


@pytest.mark.parametrize(
    "values",
    [[3.0] * 5, [1e300, -1e300], [1.7e308, -1.7e308], [0.0, 5e-324], [1e16, 1e16 + 2], [math.nan] * 3, [math.inf, 1.0]],
    ids=["constant", "wide", "the whole of a float", "denormal", "two neighbours", "all nan", "one finite"],
)
def test_col_dist_of_extreme_columns_counts_every_finite_value(store: Store, values: list[float]) -> None:
    answer = mistique.col_dist(store, put(store, np.array(values)))
    assert answer.values.sum() == sum(map(math.isfinite, values))
    assert len(answer.columns) == answer.values.shape[1]


def grouped(store: Store) -> tuple[pd.DataFrame, np.ndarray, str]:
    rng = np.random.default_rng(0)
    given = pd.DataFrame(
        {
            "zone": pd.array(rng.choice(["north", "south"], 300), dtype="str"),
            "n_rooms": rng.integers(1, 5, 300),
            "sqft": rng.normal(2000, 300, 300),
            "rating": rng.choice([1.0, 2.0, np.nan], 300),
        }
    )
    values = rng.normal(size=300)
    with capturing(store) as capture:
        capture.add("input", given, role="input")
        capture.add("stage", values)
    return given, values, "lab/model@1/train/stage"


@pytest.mark.parametrize("by", ["zone", "n_rooms"])
def test_col_dist_by_a_column_of_the_input_counts_each_group(store: Store, by: str) -> None:
    given, values, key = grouped(store)
    answer = mistique.col_dist(store, key, by=by, bins=7)
    assert answer.edges is not None
    assert answer.rows.tolist() == sorted(given[by].unique().tolist())
    for group, counts in zip(answer.rows, answer.values, strict=True):
        members = values[(given[by] == group).to_numpy()]
        assert counts.tolist() == oracle.counts_between(members.tolist(), answer.edges.tolist())


def test_groups_of_many_numbers_are_quartiles_that_hold_every_row(store: Store) -> None:
    _, values, key = grouped(store)
    answer = mistique.col_dist(store, key, by="sqft")
    assert answer.values.sum(axis=1).tolist() == [75, 75, 75, 75]
    assert answer.values.sum() == len(values)


def test_groups_of_numbers_with_nan_hold_every_row(store: Store) -> None:
    _, values, key = grouped(store)
    answer = mistique.col_dist(store, key, by="rating")
    assert answer.values.sum() == len(values)
    assert (answer.values.sum(axis=1) > 0).all()


def test_col_dist_of_text_counts_each_value_and_the_nulls(store: Store) -> None:
    frame = pd.DataFrame({"t": pd.array(["b", "a", "b", None, ""], dtype="str")})
    answer = mistique.col_dist(store, put(store, frame))
    assert dict(zip(answer.columns, answer.values[0].tolist(), strict=True)) == {"b": 2, "a": 1, "": 1}
    assert answer.n_not_finite.tolist() == [1]


def two_models(
    store: Store, first: np.ndarray, second: np.ndarray, target: np.ndarray, order: np.ndarray | None = None
) -> tuple[str, str]:
    """The predictions of two models over the same rows, those of the second in another order; their keys."""
    labels = np.array([f"r{i}" for i in range(len(target))])
    rows = np.arange(len(target)) if order is None else order
    groups = pd.DataFrame({"side": pd.array(["left", "right"] * (len(target) // 2), dtype="str")})
    for model, values, which in (("lab/one", first, np.arange(len(target))), ("lab/two", second, rows)):
        with capturing(store, model=model) as capture:
            capture.set_labels(labels[which])
            capture.add("input", groups.iloc[which].reset_index(drop=True), role="input")
            capture.add("target", target[which], role="target")
            capture.add("prediction", values[which], role="prediction")
    return "lab/one@1/train/prediction", "lab/two@1/train/prediction"


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_col_diff_of_numbers_compares_absolute_errors_by_group(store: Store, is_shuffled: bool) -> None:
    rng = np.random.default_rng(0)
    first, second, target = rng.normal(size=(3, 100))
    order = rng.permutation(100) if is_shuffled else None
    key, other = two_models(store, first, second, target, order)
    answer = mistique.col_diff(store, key, other=other, by="side")
    assert (answer.measure, answer.rows.tolist()) == ("absolute error", ["left", "right"])
    for start, row in enumerate(answer.values.tolist()):
        errors = [
            [abs(v - t) for v, t in zip(values[start::2], target[start::2], strict=True)] for values in (first, second)
        ]
        better = [a < b for a, b in zip(*errors, strict=True)]
        means = [oracle.mean(errors[0]), oracle.mean(errors[1])]
        assert row == pytest.approx([50, *means, means[1] - means[0], oracle.mean(better)])


def test_col_diff_of_classes_compares_error_rates(store: Store) -> None:
    target = np.array([0, 1, 2, 1])
    scores = np.eye(3)[[0, 1, 2, 2]]
    key, other = two_models(store, np.array([0, 1, 0, 0]), scores, target)
    answer = mistique.col_diff(store, key, other=other)
    assert answer.measure == "error rate"
    assert answer.values[0, :4].tolist() == [4, 0.5, 0.25, -0.25]


def test_col_diff_of_columns_compares_values(store: Store) -> None:
    one, two = put(store, np.array([1.0, 2.0]), model="lab/a"), put(store, np.array([4.0, 2.0]), model="lab/b")
    answer = mistique.col_diff(store, one, other=two)
    assert answer.measure == "value"
    assert answer.values.tolist() == [[2, 1.5, 3.0, 1.5, 0.5]]


def test_col_diff_of_rows_that_have_nothing_in_common_is_refused(store: Store) -> None:
    keys = [put(store, np.arange(2.0), labels=labels) for labels in (["a", "b"], ["c", "d"])]
    with pytest.raises(QueryError, match="no row label in common"):
        mistique.col_diff(store, keys[0], other=keys[1])


FRAME = pd.DataFrame({"sqft": [1.0, 2.0, 3.0], "rooms": [1, 2, 3]}, index=["id-1", "id-2", "id-3"])
BAD = {
    "unknown column": (lambda s, k: mistique.get(s, k, columns="sqtf"), "no column 'sqtf'; nearest: sqft"),
    "column out of range": (lambda s, k: mistique.get(s, k, columns=7), "no column 7"),
    "negative column": (lambda s, k: mistique.get(s, k, columns=-1), "no column -1"),
    "a truth value as column": (lambda s, k: mistique.get(s, k, columns=True), "no column True"),
    "unknown row": (lambda s, k: mistique.get(s, k, rows="id-9"), "no row is labelled 'id-9'; nearest: id-"),
    "unknown unit": (lambda s, k: mistique.get(s, k, unit=2), "unit: expected numbers from 0 to 1"),
    "negative unit": (lambda s, k: mistique.get(s, k, unit=-1), "unit: expected"),
    "a unit in words": (lambda s, k: mistique.get(s, k, unit="first"), "unit: expected"),
    "unit and columns": (lambda s, k: mistique.get(s, k, unit=0, columns="sqft"), "not both"),
    "k of 0": (lambda s, k: mistique.topk(s, k, column="sqft", k=0), "at least 1, got 0"),
    "k in words": (lambda s, k: mistique.topk(s, k, column="sqft", k="3"), "k: expected"),
    "no column named": (lambda s, k: mistique.topk(s, k), "2 columns: say which"),
    "unknown reduction": (lambda s, k: mistique.topk(s, k, column=0, reduce="sum"), 'expected "max" or "mean"'),
    "unknown combination": (
        lambda s, k: mistique.topk(s, k, columns=[0, 1], combine="min"),
        "combine: expected one of",
    ),
    "column and columns": (lambda s, k: mistique.topk(s, k, column=0, columns=[1]), "not both"),
    "a row and a column": (lambda s, k: mistique.topk(s, k, row="id-1", column=0), "not both"),
    "a row and its position": (lambda s, k: mistique.topk(s, k, row="id-1", position=0), "give one of row="),
    "no units": (lambda s, k: mistique.topk(s, k, position=0, n_units=0), "n_units: expected"),
    "an empty group": (lambda s, k: mistique.topk(s, k, columns=[]), "at least one"),
    "no columns": (lambda s, k: mistique.get(s, k, columns=[]), "columns: expected at least one"),
    "no unit": (lambda s, k: mistique.get(s, k, unit=[]), "unit: expected at least one"),
    "no bins": (lambda s, k: mistique.col_dist(s, k, bins=0), "bins: expected"),
    "unknown group": (lambda s, k: mistique.col_dist(s, k, by="zone"), "by: 'zone' is neither"),
    "groups of other rows": (lambda s, k: mistique.col_dist(s, k, by=[1, 2]), "for each of 3 rows"),
}


@pytest.mark.parametrize(("ask", "says"), BAD.values(), ids=BAD.keys())
def test_a_question_that_makes_no_sense_says_what_was_expected(store: Store, ask: object, says: str) -> None:
    key = put(store, FRAME, labels=FRAME.index)
    with pytest.raises(QueryError, match=says):
        ask(store, key)  # type: ignore[operator]


@pytest.mark.parametrize("values", [FRAME, np.ones((3, 2, 2, 4), np.float32)])
@pytest.mark.parametrize("rows", [[], slice(2, 2), np.zeros(3, bool)])
def test_no_rows_are_an_answer_of_none(store: Store, values: object, rows: object) -> None:
    answer = mistique.get(store, put(store, values), rows=rows)
    assert len(answer) == len(answer.to_frame()) == 0
    assert answer.to_frame().shape[1] == len(answer.columns)
    assert "no rows" in repr(answer)
    assert "no rows" in answer._repr_html_()


def test_an_only_row_has_no_neighbours(store: Store) -> None:
    answer = mistique.knn(store, put(store, np.ones((1, 2))), position=0)
    assert len(answer.to_frame()) == 0
    assert "no other rows" in repr(answer)


@pytest.mark.parametrize("row", [3, -1, "0", 1.5, True])
def test_rows_without_labels_are_asked_by_numbers_in_range(store: Store, row: object) -> None:
    with pytest.raises(QueryError, match="expected numbers from 0 to 2"):
        mistique.get(store, put(store, np.arange(3.0)), rows=row)


@pytest.mark.parametrize("ask", [mistique.get, mistique.topk, mistique.col_dist, mistique.explain])
def test_every_question_names_the_nearest_of_an_unknown_key(store: Store, ask: object) -> None:
    put(store, np.arange(3.0), name="scale")
    with pytest.raises(IntermediateNotFoundError, match="nearest: scale"):
        ask(store, "lab/model@1/train/scael")  # type: ignore[operator]


@pytest.mark.parametrize("key", ["", "a", "a/b@1", "a@1/b", "a@b@1/c/d", "@1/a/b", 5])
def test_what_is_no_key_is_refused_with_an_example(store: Store, key: object) -> None:
    with pytest.raises(mistique.errors.InvalidKeyError, match="for example"):
        mistique.get(store, key)  # type: ignore[arg-type]


def test_a_step_is_found_by_its_position(store: Store) -> None:
    with capturing(store) as capture:
        for i, (name, role) in enumerate(
            [("input", "input"), ("a", "stage"), ("b", "stage"), ("prediction", "prediction")]
        ):
            capture.add(name, np.array([float(i)]), role=role)
    for position, value in (("0", 0), ("-1", 3), ("-2", 2), ("1", 1)):
        assert mistique.get(store, f"lab/model@1/train/{position}").values.tolist() == [value]
    with pytest.raises(IntermediateNotFoundError):
        mistique.get(store, "lab/model@1/train/-5")


def answers(store: Store) -> list[object]:
    """One answer of each kind, with names and labels that are long and look like HTML."""
    long = "<script>alert('a very long name & more')</script>" * 2
    frame = pd.DataFrame({f"{long}{i}": np.linspace(-1e6, 1e6, 30) * 1.234567 for i in range(12)})
    frame["text"] = pd.array(["<b>x</b>" * 9] * 30, dtype="str")
    labels = [f"{long}{i}" for i in range(30)]
    with capturing(store) as capture:
        capture.set_labels(labels)
        capture.add("input", frame, role="input")
        capture.add("stage", frame)
    key = "lab/model@1/train/stage"
    text = dict.fromkeys(frame["text"])
    return [
        mistique.get(store, key),
        mistique.get(store, key, rows=labels[:2], columns=[0, 12]),
        mistique.topk(store, key, column=0),
        mistique.col_dist(store, key, column=1, by=list(labels)),
        mistique.col_dist(store, key, column="text", by="text" if text else None),
        mistique.col_diff(store, key, other=key, column=0, by="text"),
    ]


def test_every_answer_fits_a_terminal_of_80_columns(store: Store) -> None:
    for answer in answers(store):
        wide = [line for line in repr(answer).splitlines() if len(line) > 80]
        assert not wide, wide


def test_every_answer_escapes_what_it_shows_in_a_notebook(store: Store) -> None:
    for answer in answers(store):
        html = answer._repr_html_()  # type: ignore[attr-defined]
        assert "<table>" in html
        assert "<script" not in html
        assert "<b>x" not in html


def test_an_answer_says_its_bound_and_its_road(store: Store) -> None:
    key = put_layer(store, np.linspace(-1, 1, 100).reshape(50, 2), codec="power")
    answer = mistique.get(store, key)
    assert f"within {answer.max_abs_error:.3g}" in repr(answer)
    assert "read" in repr(answer)
    assert "exact" in repr(mistique.get(store, put(store, np.arange(3.0))))


def test_explain_of_an_answer_is_what_it_took(store: Store) -> None:
    answer = mistique.get(store, put(store, np.arange(3.0)))
    assert mistique.explain(answer) is answer.plan
    assert answer.plan.seconds is not None
    assert "measured" in repr(answer.plan)


def test_explain_runs_nothing(store: Store) -> None:
    plan = mistique.explain(store, put(store, np.arange(3.0)), rows=[1])
    assert (plan.seconds, plan.n_rows, plan.chosen.road) == (None, 1, "read")
