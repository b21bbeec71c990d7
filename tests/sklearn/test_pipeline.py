"""Our Pipeline is scikit-learn's: the same results, the same manners; and it captures."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sklearn
import sklearn.pipeline
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mistique
from mistique.errors import CaptureError, CaptureWarning
from mistique.sklearn import Pipeline, make_pipeline
from mistique.sklearn.examples import homes_pipelines
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["sqft_living", "grade", "lat"]


class InPlace(TransformerMixin, BaseEstimator):
    """Changes in place what it is given."""

    def fit(self, X: Any, y: Any = None) -> InPlace:
        return self

    def transform(self, X: Any) -> Any:
        X *= 2
        return X


class Objects(TransformerMixin, BaseEstimator):
    """Gives what no cell can hold."""

    def fit(self, X: Any, y: Any = None) -> Objects:
        return self

    def transform(self, X: Any) -> Any:
        import pandas as pd

        return pd.DataFrame({"fine": X[:, 0], "odd": [object()] * len(X)})


class First(TransformerMixin, BaseEstimator):
    """Takes the first column as numbers again."""

    def fit(self, X: Any, y: Any = None) -> First:
        return self

    def transform(self, X: Any) -> Any:
        return X[["fine"]].to_numpy()


def ridge(store: Store | None = None, **settings: Any) -> Pipeline:
    """A scaler and a ridge, captured when there is a store."""
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    return pipe if store is None else pipe.set_capture(store, model="homes/ridge", **settings)


def test_fit_captures_input_stages_prediction_and_target_under_row_labels(store: Store, homes: pd.DataFrame) -> None:
    X, y = homes[COLUMNS], homes["price"]
    pipe = ridge(store).fit(X, y)
    key = "homes/ridge@1/train/"
    assert mistique.get(store, key + "input").to_frame().equals(X)
    scaled = mistique.get(store, key + "scale")
    assert np.array_equal(scaled.values, pipe[:-1].transform(X))
    assert scaled.columns == tuple(COLUMNS)
    assert scaled.rows.tolist() == X.index.tolist()
    assert np.array_equal(mistique.get(store, key + "prediction").values, pipe.predict(X))
    assert np.array_equal(mistique.get(store, key + "ridge").values, pipe.predict(X))
    assert mistique.get(store, key + "target").values.tolist() == y.tolist()


def test_each_fit_is_a_version(store: Store, homes: pd.DataFrame) -> None:
    pipe = ridge(store)
    for alpha in (1.0, 1e6):
        pipe.set_params(ridge__alpha=alpha).fit(homes[COLUMNS], homes["price"])
    first, second, latest = (
        mistique.get(store, f"homes/ridge@{version}/train/prediction").values for version in (1, 2, "latest")
    )
    assert not np.array_equal(first, second)
    assert np.array_equal(second, latest)


@pytest.mark.parametrize("name", ["ridge", "forest", "boosting"])
def test_fit_with_capture_gives_the_same_bits_as_scikit_learns_pipeline(
    store: Store, homes: pd.DataFrame, name: str
) -> None:
    ours = homes_pipelines()[name]
    if name == "forest":
        # Of several threads, the one that comes first adds first: not even scikit-learn agrees with itself then.
        ours.set_params(forest__random_state=None, forest__n_estimators=5, forest__n_jobs=1)
    theirs = sklearn.pipeline.Pipeline(clone(ours).steps)
    X, y = homes.drop(columns="price"), homes["price"]
    results = []
    for pipe in (theirs, ours.set_capture(store, model="homes/x")):
        np.random.seed(7)  # noqa: NPY002
        results.append((pipe.fit(X, y).predict(X), np.random.random()))  # noqa: NPY002
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_without_set_capture_nothing_is_stored_and_nothing_differs(store: Store, homes: pd.DataFrame) -> None:
    pipe = ridge()
    theirs = sklearn.pipeline.Pipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    assert repr(pipe) == repr(theirs)
    assert pipe.get_params().keys() == theirs.get_params().keys()
    pipe.set_capture(store, model="homes/ridge").set_capture(None).fit(homes[COLUMNS], homes["price"])
    assert store.catalog.captures() == []
    assert vars(pipe).keys() == vars(theirs).keys()


@pytest.mark.parametrize("duplicate", [clone, copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_capture_settings_follow_clone_deepcopy_and_pickle(store: Store, homes: pd.DataFrame, duplicate: Any) -> None:
    duplicate(ridge(store)).fit(homes[COLUMNS], homes["price"])
    assert [capture.number for capture in store.catalog.captures()] == ["1"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_search_captures_every_fit_and_finds_the_same(store: Store, homes: pd.DataFrame, n_jobs: int) -> None:
    X, y = homes[COLUMNS], homes["price"]
    grid = {"ridge__alpha": [0.1, 1000.0]}
    found = GridSearchCV(ridge(store), grid, cv=3, n_jobs=n_jobs).fit(X, y)
    plain = GridSearchCV(ridge(), grid, cv=3).fit(X, y)
    assert found.best_params_ == plain.best_params_
    assert np.array_equal(found.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert len(store.catalog.captures()) == 2 * 3 + 1


def test_set_output_gives_frames_and_their_names_are_stored(store: Store, homes: pd.DataFrame) -> None:
    pipe = ridge(store).set_output(transform="pandas")
    pipe.fit(homes[COLUMNS], homes["price"])
    assert mistique.get(store, "homes/ridge@1/train/scale").to_frame().equals(pipe[:-1].transform(homes[COLUMNS]))


@pytest.mark.supported("`memory=`", "a cached step is captured; what is inside of it where it is certain")
def test_a_stage_found_in_the_memory_is_captured_too(store: Store, homes: pd.DataFrame, tmp_path: Any) -> None:
    for _ in range(2):
        pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())], memory=str(tmp_path / "memory"))
        pipe.set_capture(store, model="homes/ridge").fit(homes[COLUMNS], homes["price"])
    first, second = (mistique.get(store, f"homes/ridge@{version}/train/scale").values for version in (1, 2))
    assert np.array_equal(first, second)


def test_passthrough_is_captured_as_what_came_in(store: Store, homes: pd.DataFrame) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("nothing", "passthrough"), ("ridge", Ridge())])
    pipe.set_capture(store, model="homes/ridge").fit(homes[COLUMNS], homes["price"])
    key = "homes/ridge@1/train/"
    assert np.array_equal(mistique.get(store, key + "nothing").values, mistique.get(store, key + "scale").values)


def test_a_pipeline_that_ends_in_a_transformer_has_no_prediction(store: Store, homes: pd.DataFrame) -> None:
    pipe = make_pipeline(StandardScaler(), PCA(2)).set_capture(store, model="homes/pca")
    out = pipe.fit_transform(homes[COLUMNS])
    assert np.array_equal(mistique.get(store, "homes/pca@1/train/pca").values, out)
    assert "prediction" not in store.catalog.captures()[0].intermediates


def test_sparse_output_is_stored_and_recomputes_from_its_container(store: Store, homes: pd.DataFrame) -> None:
    encode = ColumnTransformer([("zip", OneHotEncoder(), ["zipcode"])], sparse_threshold=1.0)
    pipe = Pipeline([("encode", encode), ("ridge", Ridge())]).set_capture(store, model="homes/zip")
    pipe.fit(homes, homes["price"])
    answer = mistique.get(store, "homes/zip@1/train/encode")
    assert np.array_equal(answer.values, pipe[:-1].transform(homes).toarray())
    assert answer.columns[0].startswith("zip__zipcode_")


@pytest.mark.supported("`sample_weight`, metadata routing", "same bits")
def test_routed_sample_weights_reach_the_model_bit_for_bit(store: Store, homes: pd.DataFrame) -> None:
    X, y, weight = homes[COLUMNS], homes["price"], np.arange(len(homes)) % 5.0
    with sklearn.config_context(enable_metadata_routing=True):
        coefficients = []
        for kind in (sklearn.pipeline.Pipeline, Pipeline):
            model = Ridge().set_fit_request(sample_weight=True)
            pipe = kind([("scale", StandardScaler().set_fit_request(sample_weight=True)), ("ridge", model)])
            if kind is Pipeline:
                pipe.set_capture(store, model="homes/ridge")
            coefficients.append(pipe.fit(X, y, sample_weight=weight)[-1].coef_)
    assert np.array_equal(*coefficients)
    assert len(store.catalog.captures()) == 1


def test_what_a_later_stage_changes_in_place_was_captured_before(store: Store) -> None:
    X = np.arange(12.0).reshape(6, 2)
    pipe = Pipeline([("one", InPlace()), ("two", InPlace()), ("ridge", Ridge())]).set_capture(store, model="a/b")
    pipe.fit(X.copy(), np.arange(6.0))
    for name, factor in [("input", 1), ("one", 2), ("two", 4)]:
        assert np.array_equal(mistique.get(store, f"a/b@1/train/{name}").values, X * factor)


def test_a_column_that_cannot_be_stored_is_named_in_one_warning_and_the_rest_is_kept(store: Store) -> None:
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6.0)
    pipe = Pipeline([("odd", Objects()), ("first", First()), ("ridge", Ridge())]).set_capture(store, model="a/b")
    with pytest.warns(CaptureWarning, match=r"stage 'odd', column 'odd' cannot be stored: found .*object") as told:
        pipe.fit(X, y)
    assert len(told) == 1
    assert list(store.catalog.captures()[0].intermediates) == ["input", "target", "first", "prediction"]


def test_a_fit_that_fails_raises_the_users_exception_and_stores_nothing(store: Store) -> None:
    ridge(store).fit(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ridge(store).fit(np.zeros((3, 1)), np.zeros(4))
    assert [capture.number for capture in store.catalog.captures()] == ["1"]


def test_a_capture_that_fails_lets_the_fit_go_on_with_one_warning(store: Store, homes: pd.DataFrame) -> None:
    pipe = ridge(store)
    store.close()
    with pytest.warns(CaptureWarning, match="nothing of homes/ridge was stored") as told:
        pipe.fit(homes[COLUMNS], homes["price"])
    assert len(told) == 1
    plain = ridge().fit(homes[COLUMNS], homes["price"])
    assert np.array_equal(pipe.predict(homes[COLUMNS]), plain.predict(homes[COLUMNS]))


def test_classes_are_captured_as_they_are_predicted(store: Store, homes: pd.DataFrame) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    pipe.set_capture(store, model="homes/waterfront").fit(homes[COLUMNS], homes["grade"].astype(str))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = pipe.predict(homes[COLUMNS])
    assert mistique.get(store, "homes/waterfront@1/train/prediction").values.tolist() == predicted.tolist()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "a/b", "keep": "some"}, 'keep="all", keep="none" or keep="auto"'),
        ({"model": "a/b", "on_error": "shrug"}, "on_error"),
        ({}, "expected the name of a model"),
        ({"model": "a/b", "dataset": "a/b"}, "without a slash"),
    ],
)
def test_settings_that_mean_nothing_are_told(store: Store, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CaptureError, match=said):
        ridge().set_capture(store, **settings)


def test_a_forest_of_a_captured_fit_is_the_same_after_the_extra_prediction(store: Store, homes: pd.DataFrame) -> None:
    forest = RandomForestRegressor(3, random_state=np.random.RandomState(0))
    pipe = Pipeline([("forest", forest)]).set_capture(store, model="homes/forest")
    pipe.fit(homes[COLUMNS], homes["price"])
    plain = RandomForestRegressor(3, random_state=np.random.RandomState(0)).fit(homes[COLUMNS], homes["price"])
    assert np.array_equal(pipe.predict(homes[COLUMNS]), plain.predict(homes[COLUMNS]))
    assert pipe[-1].random_state.random_sample() == plain.random_state.random_sample()
