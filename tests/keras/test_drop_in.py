"""What people have, with one line added: the training is what it was, and every layer is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.keras import MistiqueCallback
from tests.keras.networks import CASES, Case

if TYPE_CHECKING:
    from mistique.store import Store


def trained(case: Case, *callbacks: keras.callbacks.Callback) -> tuple[keras.Model, dict[str, list[float]]]:
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    net = case.make()
    net.compile(**{"optimizer": "adam", "loss": "mse", **case.compiled})
    return net, net.fit(case.x, case.y, epochs=2, batch_size=4, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize("name", CASES)
def test_training_is_bit_identical_and_each_layer_is_captured(store: Store, name: str) -> None:
    case = CASES[name]
    watch = MistiqueCallback(store, case.x, case.y, model="m", codec="raw", batch_size=8, on_error="raise")
    (plain, plain_history), (watched, history) = trained(case), trained(case, watch)
    assert history == plain_history
    for one, other in zip(plain.variables, watched.variables, strict=True):
        ends = [keras.ops.convert_to_numpy(variable.value) for variable in (one, other)]
        assert np.array_equal(*ends, equal_nan=ends[0].dtype.kind == "f"), one.path
    assert watch.captured == ["m@1.1", "m@1.2"]
    captured = store.catalog.find("m@1.2/valid/-1")[0].intermediates
    found = [node.name for node in captured.values() if node.role in ("stage", "prediction")]
    assert sorted(found) == sorted(case.names)
    given = keras.tree.flatten(watched.predict(case.x, batch_size=8, verbose=0))
    stored = [mistique.get(store, f"m@1.2/valid/{node}").to_numpy() for node in case.names if "prediction" in node]
    for one, other in zip(given, stored, strict=True):
        np.testing.assert_allclose(other.reshape(one.shape), one, rtol=case.tolerance, atol=case.tolerance)
