"""capture: any fitted pipeline over any data; what it says when they do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sklearn.pipeline
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import mistique
from mistique.errors import CaptureError, MistiqueError, ModelMismatchError, NotEncodableError
from mistique.sklearn import Pipeline, capture
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["sqft_living", "grade", "lat"]


@pytest.fixture
def fitted(homes: pd.DataFrame) -> sklearn.pipeline.Pipeline:
    """scikit-learn's own pipeline, fitted."""
    pipe = sklearn.pipeline.Pipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    return pipe.fit(homes[COLUMNS], homes["price"])


def test_stages_of_a_fitted_pipeline_over_other_rows_are_what_it_gives(
    store: Store, homes: pd.DataFrame, fitted: Any
) -> None:
    rows = homes.iloc[100:140]
    name = capture(fitted, rows[COLUMNS], rows["price"], store=store, dataset="some", model="homes/plain")
    assert name == "homes/plain@1"
    assert np.array_equal(mistique.get(store, f"{name}/some/scale").values, fitted[:-1].transform(rows[COLUMNS]))
    assert np.array_equal(mistique.get(store, f"{name}/some/-1").values, fitted.predict(rows[COLUMNS]))
    assert mistique.get(store, f"{name}/some/target").rows.tolist() == rows.index.tolist()


def test_other_data_of_a_captured_fit_go_under_its_version(store: Store, homes: pd.DataFrame) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/ridge")
    for _ in range(2):
        pipe.fit(homes[COLUMNS], homes["price"])
    assert capture(pipe, homes[COLUMNS][:10], store=store, dataset="valid") == "homes/ridge@2"
    assert capture(pipe, homes[COLUMNS][:20], store=store, dataset="test") == "homes/ridge@2"


def test_a_single_estimator_is_captured_as_a_pipeline_of_one_step(store: Store, homes: pd.DataFrame) -> None:
    model = Ridge().fit(homes[COLUMNS], homes["price"])
    name = capture(model, homes[COLUMNS], store=store, dataset="all", model="homes/one")
    assert np.array_equal(mistique.get(store, f"{name}/all/prediction").values, model.predict(homes[COLUMNS]))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda X, y: (X[:0], y[:0]), CaptureError, "at least one row"),
        (lambda X, y: (X, y[:-1]), CaptureError, "1500 rows of X and 1499 of y"),
        (lambda X, y: (X[["grade", "lat"]], y), ModelMismatchError, "columns sqft_living, grade, lat, got grade"),
        (lambda X, y: (X.to_numpy()[:, :2], y), ModelMismatchError, "expected 3 features, got 2 features"),
    ],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_data_that_do_not_fit_are_told_and_nothing_stored_before_is_lost(
    store: Store, homes: pd.DataFrame, fitted: Any, change: Any, error: type[MistiqueError], said: str
) -> None:
    X, y = homes[COLUMNS], homes["price"]
    capture(fitted, X, y, store=store, dataset="good", model="homes/plain")
    bad = change(X, y)
    with pytest.raises(error, match=said):
        capture(fitted, *bad, store=store, dataset="bad", model="homes/plain")
    assert [found.dataset for found in store.catalog.captures()] == ["good"]
    assert mistique.get(store, "homes/plain@1/good/input").to_frame().equals(X)


def test_a_model_that_is_not_fitted_is_told(store: Store, homes: pd.DataFrame) -> None:
    with pytest.raises(CaptureError, match="StandardScaler is not fitted"):
        capture(StandardScaler(), homes[COLUMNS], store=store, dataset="x", model="a/b")


def test_a_column_of_objects_is_named(store: Store, homes: pd.DataFrame) -> None:
    model = sklearn.pipeline.make_pipeline("passthrough")
    frame = homes.assign(odd=[[1]] * len(homes))
    with pytest.raises(NotEncodableError, match=r"input 'input', column 'odd' cannot be stored: found .*list"):
        capture(model, frame, store=store, dataset="x", model="a/b")
    assert store.catalog.captures() == []
