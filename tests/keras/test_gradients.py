"""Weights and gradients as intermediates, when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.errors import CaptureError, CaptureWarning
from mistique.keras import MistiqueCallback, capture
from tests.keras.networks import CASES

if TYPE_CHECKING:
    from mistique.store import Store

Y = np.linspace(-1, 1, 25, dtype="float32")[:, None]


def values(store: Store, key: str) -> np.ndarray:
    return mistique.get(store, key).to_numpy()


@pytest.mark.supported("weights, gradients")
@pytest.mark.tensorflow
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_the_gradient_of_a_row_is_that_of_its_own_loss_whoever_is_in_its_batch(
    store: Store, rows: np.ndarray, reduction: str
) -> None:
    hidden, score = keras.layers.Dense(3, name="hidden"), keras.layers.Dense(1)
    net = keras.Sequential([keras.Input((4,)), hidden, keras.layers.BatchNormalization(name="norm"), score])
    net.compile(loss=keras.losses.MeanSquaredError(reduction=reduction))
    capture(net, rows, Y, store=store, model="m", dataset="d", codec="raw", batch_size=10, gradients=True)
    of_prediction = 2 * (values(store, "m@1/d/prediction") - Y)
    np.testing.assert_allclose(values(store, "m@1/d/prediction/gradient"), of_prediction, rtol=1e-5)
    of_norm = of_prediction @ np.asarray(score.kernel).T
    np.testing.assert_allclose(values(store, "m@1/d/norm/gradient"), of_norm, rtol=1e-4, atol=1e-6)
    of_input = of_norm / np.sqrt(1 + 1e-3) @ np.asarray(hidden.kernel).T
    np.testing.assert_allclose(values(store, "m@1/d/input/gradient"), of_input, rtol=1e-4, atol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["dicts of inputs and outputs", "a tuple of outputs", "a Transformer"])
def test_gradients_of_the_layers_chosen_and_weights_leave_training_as_it_was(store: Store, name: str) -> None:
    case, ends = CASES[name], []
    for is_watched in (False, True):
        keras.backend.clear_session()
        keras.utils.set_random_seed(2)
        net = case.make()
        net.compile(**{"optimizer": "adam", "loss": "mse", **case.compiled})
        asked = {"layers": case.names[:1], "weights": True, "gradients": True, "on_error": "raise"}
        watch = [MistiqueCallback(store, case.x, case.y, model="m", **asked)] if is_watched else []
        history = net.fit(case.x, case.y, epochs=1, verbose=0, callbacks=watch).history
        ends.append((history, net.get_weights()))
    assert ends[0][0] == ends[1][0]
    assert all(map(np.array_equal, ends[0][1], ends[1][1]))
    gradient = values(store, f"m@1.1/valid/{case.names[0]}/gradient")
    assert gradient.shape == values(store, f"m@1.1/valid/{case.names[0]}").shape
    assert gradient.any()


@pytest.mark.supported("weights, gradients", "when asked")
@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("subclassed, nested to three levels", "middle/left/wide/kernel"),
        ("attention with its scores", "attention/query/kernel"),
        ("sequential", "norm/moving_mean"),
    ],
)
def test_weights_are_a_data_set_of_one_row_named_as_their_layers(store: Store, name: str, weight: str) -> None:
    net = CASES[name].make()
    capture(net, CASES[name].x, store=store, model="m", dataset="d", weights=True)
    found = store.catalog.find(f"m@1/weights/{weight}")[0].intermediates
    stored = [values(store, f"m@1/weights/{key}").reshape(node.shape) for key, node in found.items()]
    assert sorted(w.shape for w in stored) == sorted(w.shape for w in net.get_weights())
    assert all(any(np.array_equal(one, other) for other in net.get_weights()) for one in stored)


@pytest.mark.parametrize("what", ["y", "loss"])
def test_gradients_without_a_loss_are_refused_and_the_fit_goes_on(store: Store, rows: np.ndarray, what: str) -> None:
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    if what == "loss":
        with pytest.raises(CaptureError, match="gradients: expected"):
            capture(net, rows, Y, store=store, model="m", dataset="d", gradients=True)
        return
    net.compile(loss="mse")
    with pytest.warns(CaptureWarning, match="gradients: expected"):
        net.fit(rows, Y, verbose=0, callbacks=[MistiqueCallback(store, rows, model="m", gradients=True)])
