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
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(5)
    net = case.make()
    # Adam makes its variables in the first step, which TensorFlow then traces once more: two cases have it.
    net.compile(**{"optimizer": "sgd", "loss": "mse", **case.compiled})
    return net, net.fit(case.x, case.y, epochs=2, batch_size=4, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("sequential", marks=pytest.mark.supported("Sequential, functional", "every layer")),
        pytest.param("nested to three levels", marks=pytest.mark.supported("nested models, three levels", "`c/b/a/x`")),
        pytest.param(
            "subclassed, nested to three levels",
            marks=pytest.mark.supported("subclassed models, nested", "named by attributes: `middle/left/wide`"),
        ),
        pytest.param(
            "a layer shared by three calls",
            marks=pytest.mark.supported("shared layers", "each call its own: `d`, `d:1`"),
        ),
        pytest.param(
            "dicts of inputs and outputs",
            marks=pytest.mark.supported("several inputs and outputs, by name", "`input/a`, `prediction/p`"),
        ),
        pytest.param(
            "a tuple of outputs", marks=pytest.mark.supported("a tuple of outputs", "`prediction/0`, `prediction/1`")
        ),
        pytest.param(
            "an LSTM with its states",
            marks=pytest.mark.supported("layers of several tensors", "`lstm/0`, `lstm/1`, ..."),
        ),
        pytest.param(
            "attention with its scores", marks=pytest.mark.supported("attention with its scores", "`attention/1`")
        ),
        pytest.param(
            "masked sequences of any length",
            marks=pytest.mark.supported("sequences of any length", "each data set its own"),
        ),
        pytest.param(
            "a Transformer",
            marks=pytest.mark.supported("a Transformer, an LSTM, on real text", "every layer, blocks opened"),
        ),
        pytest.param(
            "mixed_bfloat16", marks=pytest.mark.supported("mixed precision", "bfloat16 and float16 as they are")
        ),
        pytest.param("mixed_float16", marks=pytest.mark.supported("mixed precision")),
        pytest.param("a train_step of its own", marks=pytest.mark.supported("a `train_step` of one's own", "as any")),
        pytest.param(
            "jit_compile", marks=pytest.mark.supported("`jit_compile`, `steps_per_execution`, `run_eagerly`", "as any")
        ),
        pytest.param(
            "steps_per_execution", marks=pytest.mark.supported("`jit_compile`, `steps_per_execution`, `run_eagerly`")
        ),
        pytest.param("run_eagerly", marks=pytest.mark.supported("`jit_compile`, `steps_per_execution`, `run_eagerly`")),
    ],
)
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


def test_each_network_is_in_the_table_of_what_is_supported() -> None:
    marks = test_training_is_bit_identical_and_each_layer_is_captured.pytestmark
    (params,) = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    assert {param.values[0] for param in params} == set(CASES)
