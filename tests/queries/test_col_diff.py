"""col_diff against NumPy: errors of two models, matched by row label."""

from __future__ import annotations

import numpy as np
import pytest

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import capturing


def put_model(store: Store, model: str, prediction: np.ndarray, target: np.ndarray, labels: np.ndarray) -> str:
    """Capture predictions and their targets; the key of the predictions."""
    with capturing(store, model=model) as capture:
        capture.set_labels(labels)
        capture.add("input", np.arange(len(target)) % 3.0, role="input", columns=["kind"])
        capture.add("prediction", prediction, role="prediction")
        capture.add("target", target, role="target")
    return f"{capture.committed}/train/prediction"


def test_numbers_are_compared_by_absolute_error_in_each_group(store: Store) -> None:
    random = np.random.default_rng(0)
    target, noise = random.random(90), random.standard_normal((2, 90))
    labels = np.arange(90) * 10
    first = put_model(store, "a/one", target + noise[0], target, labels)
    second = put_model(store, "a/two", target + noise[1], target, labels)
    answer = mistique.col_diff(store, first, other=second, by="kind")
    assert answer.measure == "absolute error"
    for group, row in zip(answer.rows, answer.values, strict=True):
        here = np.arange(90) % 3 == group
        one, two = np.abs(noise[0][here]), np.abs(noise[1][here])
        expected = [30, one.mean(), two.mean(), (two - one).mean(), (one < two).mean()]
        np.testing.assert_allclose(row, expected, rtol=1e-9)


def test_rows_in_another_order_are_matched_by_label(store: Store) -> None:
    target = np.array([1.0, 2.0, 3.0, 4.0])
    order = np.array([2, 0, 3])
    first = put_model(store, "a/one", target, target, np.array(["a", "b", "c", "d"]))
    second = put_model(store, "a/two", target[order] + 1, target[order], np.array(["a", "b", "c", "d"])[order])
    answer = mistique.col_diff(store, first, other=second)
    assert answer.values[0, :3].tolist() == [3.0, 0.0, 1.0]


def test_a_repeated_label_is_matched_in_order(store: Store) -> None:
    target = np.array([1.0, 2.0, 3.0])
    labels = np.array(["x", "x", "y"])
    first = put_model(store, "a/one", np.array([1.0, 2.0, 3.0]), target, labels)
    second = put_model(store, "a/two", np.array([1.5, 2.5, 3.5]), target, labels)
    assert mistique.col_diff(store, first, other=second).values[0, :3].tolist() == [3.0, 0.0, 0.5]


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_class_scores_are_compared_by_error_rate(store: Store, dtype: type) -> None:
    target = np.array([0, 1, 2, 1], dtype)
    scores = np.eye(3)[[0, 1, 2, 0]]
    first = put_model(store, "a/one", scores, target, np.arange(4) + 5)
    second = put_model(store, "a/two", np.eye(3)[[1, 1, 0, 0]], target, np.arange(4) + 5)
    answer = mistique.col_diff(store, first, other=second)
    assert answer.measure == "error rate"
    assert answer.values[0, 1:3].tolist() == [0.25, 0.75]


def test_class_names_are_compared_by_error_rate(store: Store) -> None:
    target = np.array(["cat", "dog"])
    first = put_model(store, "a/one", target, target, np.array([3, 4]))
    second = put_model(store, "a/two", target[::-1].copy(), target, np.array([3, 4]))
    assert mistique.col_diff(store, first, other=second).values[0, 1:3].tolist() == [0.0, 1.0]


def test_two_versions_of_one_model_are_told_apart_in_the_columns(store: Store) -> None:
    target = np.arange(3.0)
    for _ in range(2):
        put_model(store, "a/one", target, target, np.arange(3) + 1)
    answer = mistique.col_diff(store, "a/one@1/train/prediction", other="a/one@2/train/prediction")
    assert answer.columns[1:3] == ("one@1", "one@2")


def test_models_without_a_row_in_common_are_told(store: Store) -> None:
    target = np.arange(2.0)
    first = put_model(store, "a/one", target, target, np.array(["a", "b"]))
    second = put_model(store, "a/two", target, target, np.array(["c", "d"]))
    with pytest.raises(QueryError, match="no row label in common"):
        mistique.col_diff(store, first, other=second)
