"""Networks as the last step of scikit-learn's pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.keras import MistiqueCallback

if TYPE_CHECKING:
    from mistique.store import Store

pytest.importorskip("sklearn")


def small(X: np.ndarray, y: np.ndarray) -> keras.Model:
    net = keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Dense(3, "relu", name="h"), keras.layers.Dense(1)])
    net.compile("adam", "mse")
    return net


@pytest.mark.supported("a network at the end of a pipeline", "one version of both")
@pytest.mark.filterwarnings("ignore:.*sklearn.*")
def test_a_network_at_the_end_of_a_pipeline_breaks_automatic_logging_and_is_captured_under_one_version(
    store: Store, rows: np.ndarray
) -> None:
    # mlflow 3402: a Keras model as the last step of a Pipeline breaks its autologging.
    from sklearn.preprocessing import StandardScaler

    from mistique.sklearn import Pipeline

    scaled, y = StandardScaler().fit_transform(rows), rows.sum(axis=1)
    for _ in range(2):
        watch = MistiqueCallback(store, scaled[:10], y[:10], model="toy", codec="raw", on_error="raise")
        fitted = {"epochs": 2, "verbose": 0, "callbacks": [watch]}
        wrapped = keras.wrappers.SKLearnRegressor(small, fit_kwargs=fitted)
        pipe = Pipeline([("scale", StandardScaler()), ("net", wrapped)])
        pipe.set_capture(store, model="toy", on_error="raise").fit(rows, y)
    assert watch.captured == ["toy@2.1", "toy@2.2"]
    assert [one.name for one in store.models()] == ["toy@1", "toy@1.1", "toy@1.2", "toy@2", "toy@2.1", "toy@2.2"]
    assert np.array_equal(mistique.get(store, "toy@2/train/scale").values, scaled)
    predicted = mistique.get(store, "toy@2/train/prediction").values
    np.testing.assert_allclose(predicted.ravel(), pipe.predict(rows).ravel(), rtol=1e-5)
    hidden = keras.ops.convert_to_numpy(pipe["net"].model_.layers[0](scaled[:10]))
    np.testing.assert_allclose(mistique.get(store, "toy@2/valid/h").values, hidden, rtol=1e-5, atol=1e-6)
