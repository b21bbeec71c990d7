"""What runs on the side is not noticed; and what it sees decides what can be recomputed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.pipeline
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import mistique
from mistique.errors import CaptureError
from mistique.sklearn import Pipeline, capture
from mistique.sklearn.artifact import keep
from mistique.sklearn.sample import largest_difference
from mistique.sklearn.stages import as_pipeline
from mistique.store import Store

if TYPE_CHECKING:
    from mistique.schema import Intermediate

X = np.random.default_rng(0).random((200, 4))
y = X @ [1.0, 2.0, 3.0, 4.0]


class Shake(TransformerMixin, BaseEstimator):
    """Adds chance from the generators that everybody shares."""

    def fit(self, X: Any, y: Any = None) -> Shake:
        return self

    def transform(self, X: Any) -> Any:
        return X + np.random.rand(*X.shape) + random.random()  # noqa: NPY002


def seeded_noise(X: Any) -> Any:
    """Chance that comes from one seed: the same for the first rows, whatever follows them."""
    return X + np.random.default_rng(0).random(X.shape)


def centred(X: Any) -> Any:
    """Rows that depend on the whole batch."""
    return X - X.mean(axis=0)


def intermediates(store: Store) -> dict[str, Intermediate]:
    """Of the only capture."""
    (found,) = store.catalog.captures()
    return dict(found.intermediates)


def test_a_capture_draws_nothing_from_the_generators_that_the_users_program_shares(store: Store) -> None:
    drawn = []
    for captured in (False, True):
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        pipe = Pipeline([("shake", Shake()), ("ridge", Ridge())])
        pipe.set_capture(store if captured else None, model="a/shake").fit(X, y)
        drawn.append((*pipe[-1].coef_, np.random.rand(), random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert len(store.catalog.captures()) == 1


def test_a_predictor_with_a_generator_of_its_own_predicts_what_it_would_have(store: Store) -> None:
    def chance() -> DummyClassifier:
        return DummyClassifier(strategy="stratified", random_state=np.random.RandomState(1))

    labels = (y > y.mean()).astype(int)
    pipe = Pipeline([("chance", chance())]).set_capture(store, model="a/chance").fit(X, labels)
    assert pipe.predict(X).tolist() == chance().fit(X, labels).predict(X).tolist()


@pytest.mark.parametrize("function", [seeded_noise, centred])
@pytest.mark.parametrize("n_rows", [10, 200])
def test_a_step_whose_rows_depend_on_their_place_or_batch_is_not_recomputed_nor_what_follows_it(
    store: Store, function: Any, n_rows: int
) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("step", FunctionTransformer(function)), ("ridge", Ridge())])
    pipe.set_capture(store, model="a/b").fit(X[:n_rows], y[:n_rows])
    found = intermediates(store)
    assert found["scale"].recompute_difference == 0.0
    assert found["step"].recompute_difference is None
    assert "differ here" in found["step"].recompute_note
    assert found["prediction"].recompute_difference is None
    assert "'step' before it" in found["prediction"].recompute_note


def test_rounding_in_another_batch_is_stated_as_a_difference() -> None:
    absolute, relative = largest_difference(np.array([1.0, 2.0]), np.array([1.0, 2.0 + 2**-50]))
    assert (absolute, relative) == (2**-50, 2**-51)


def test_nan_and_null_are_equal_to_themselves() -> None:
    assert largest_difference(np.array([1.0, np.nan]), np.array([1.0, np.nan])) == (0.0, 0.0)
    texts = np.array(["a", None, np.nan], object)
    assert largest_difference(texts, texts.copy()) == (0.0, 0.0)


def test_what_fit_predict_gives_is_the_prediction_and_is_recomputed_only_by_a_model_that_can_predict(
    store: Store,
) -> None:
    means = Pipeline([("scale", StandardScaler()), ("means", KMeans(3, random_state=0))])
    given = means.set_capture(store, model="a/means").fit_predict(X)
    assert mistique.get(store, "a/means@1/train/prediction").values.tolist() == given.tolist()
    assert intermediates(store)["prediction"].recompute_difference == 0.0
    Pipeline([("dense", DBSCAN())]).set_capture(store, model="a/dense").fit_predict(X)
    _, prediction = store.catalog.find("a/dense@1/train/dense")
    assert prediction.recompute_difference is None
    assert "has no predict" in prediction.recompute_note


def test_what_fit_transform_gives_is_what_the_last_transformer_is_captured_with(store: Store) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("pca", PCA(2))]).set_capture(store, model="a/pca")
    given = pipe.fit_transform(X)
    assert np.array_equal(mistique.get(store, "a/pca@1/train/pca").values, given)
    assert mistique.get(store, "a/pca@1/train/pca").columns == ("pca0", "pca1")


def test_a_predictor_that_changes_its_input_in_place_is_asked_about_what_came_in(store: Store) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("line", LinearRegression(copy_X=False))])
    pipe.set_capture(store, model="a/line").fit(X, y)
    assert np.array_equal(mistique.get(store, "a/line@1/train/line").values, pipe.predict(X))


def test_capture_leaves_the_data_and_the_model_as_they_were(store: Store) -> None:
    pipe = sklearn.pipeline.Pipeline([("scale", StandardScaler(copy=False)), ("ridge", Ridge())]).fit(X.copy(), y)
    before, given = set(vars(pipe)), X.copy()
    capture(pipe, given, store=store, dataset="valid", model="a/b")
    assert np.array_equal(given, X)
    assert set(vars(pipe)) == before


def test_the_same_model_fitted_again_is_another_version(store: Store) -> None:
    pipe = sklearn.pipeline.Pipeline([("ridge", Ridge())]).fit(X, y)
    names = [capture(pipe, X, store=store, dataset=dataset, model="a/b") for dataset in ("one", "two")]
    pipe.fit(X[:50], y[:50])
    assert [*names, capture(pipe, X, store=store, dataset="one", model="a/b")] == ["a/b@1", "a/b@1", "a/b@2"]


def test_step_names_that_are_reserved_or_need_escaping_are_filed_under_names_of_their_own(store: Store) -> None:
    steps = [("input", StandardScaler()), ("input_", "passthrough"), ("a/b", "passthrough"), ("target", Ridge())]
    Pipeline(steps).set_capture(store, model="a/b").fit(X, y)
    assert list(intermediates(store)) == ["input", "target", "input_", "input__", "a%2Fb", "prediction"]
    assert intermediates(store)["prediction"].aliases == ("target_",)


def test_a_sparse_input_that_cannot_be_cut_does_not_hinder_recomputing(store: Store) -> None:
    Pipeline([("ridge", Ridge())]).set_capture(store, model="a/b").fit(scipy.sparse.coo_array(X), y)
    assert intermediates(store)["prediction"].recompute_difference is not None


def test_one_model_makes_one_artifact_however_often_it_is_kept() -> None:
    pipe = as_pipeline(Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).fit(X, y))
    first, second = keep(pipe).artifact, keep(pipe).artifact
    assert first is not None
    assert first == second
    assert first.kind == "skops"


def test_a_model_that_nothing_can_hold_is_captured_without_it_and_says_why(store: Store) -> None:
    numbers = (number for number in range(3))
    pipe = Pipeline([("step", FunctionTransformer(lambda X: X + numbers.gi_running)), ("ridge", Ridge())])
    pipe.set_capture(store, model="a/b").fit(X, y)
    (found,) = store.catalog.captures()
    assert found.version.artifact is None
    assert "neither skops nor cloudpickle" in found.version.artifact_note
    assert np.array_equal(mistique.get(store, "a/b@1/train/step").values, X)


def test_what_is_no_model_and_what_is_no_store_are_told(store: Store) -> None:
    with pytest.raises(CaptureError, match="a fitted model that can transform or predict, got a str"):
        capture("ridge", X, store=store, dataset="x", model="a/b")
    with pytest.raises(CaptureError, match="expected a store"):
        capture(Ridge().fit(X, y), X, store=store.uri, dataset="x", model="a/b")  # type: ignore[arg-type]


def test_with_on_error_raise_a_failed_capture_raises_and_nothing_is_stored(store: Store) -> None:
    pipe = Pipeline([("complex", FunctionTransformer(lambda X: X + 0j)), ("real", FunctionTransformer(np.real))])
    with pytest.raises(mistique.errors.NotEncodableError, match="stage 'complex', column 0"):
        pipe.set_capture(store, model="a/b", on_error="raise").fit(X)
    assert store.catalog.captures() == []
