"""Whole batches run as one graph where that is faithful, eagerly where it is not, and alike when recomputed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique.keras
from mistique.keras.batches import Batches
from mistique.keras.examples import fashion_cnn
from mistique.keras.network import Network
from mistique.keras.recomputer import recomputer
from mistique.keras.recorder import record_batch
from mistique.keras.tensors import as_tensors
from mistique.planner.measured import Took

if TYPE_CHECKING:
    from mistique.store import Store

# Only its passes are traced.
pytestmark = pytest.mark.tensorflow

layers = keras.layers
Stored = Callable[[str], np.ndarray]


def residual() -> keras.Model:
    given = keras.Input((28, 28, 1))
    one = layers.Conv2D(4, 3, padding="same", activation="relu", name="one")(given)
    two = layers.Conv2D(4, 3, padding="same", name="two")(one)
    both = layers.Activation("relu", name="positive")(layers.Add(name="both")([one, two]))
    return keras.Model(given, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D(name="mean")(both)))


def normalized() -> keras.Model:
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, strides=3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="positive"),
            layers.Flatten(name="flat"),
            layers.Dense(5, name="dense"),
            layers.LayerNormalization(name="of_layer"),
        ]
    )
    norm, rng = net.get_layer("norm"), np.random.default_rng(1)
    norm.set_weights([rng.uniform(0.1, 2, size=4) for _ in norm.get_weights()])
    return net


def activated() -> keras.Model:
    """Activations apart: what TensorFlow would fuse across layers."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, strides=3, name="conv"),
            layers.Activation("relu", name="relu"),
            layers.SeparableConv2D(4, 3, activation="relu", name="separable"),
            layers.Activation("elu", name="elu"),
            layers.Flatten(name="flat"),
            layers.Dense(5, name="dense"),
            layers.Activation("gelu", name="gelu"),
        ]
    )


def mixed() -> keras.Model:
    first = layers.Conv2D(4, 3, strides=3, dtype="mixed_bfloat16", name="conv")
    return keras.Sequential([keras.Input((28, 28, 1)), first, layers.Flatten(name="flat"), layers.Dense(3, name="out")])


def prepared(net: keras.Model, x: np.ndarray, batch_rows: int) -> tuple[Network, Batches]:
    batches, network = Batches(x, batch_rows=batch_rows), Network(net, "m")
    network.prepare(next(iter(batches)), batch_rows)
    return network, batches


@pytest.mark.parametrize("make", [fashion_cnn, residual, normalized, activated, mixed])
def test_recomputed_from_the_input_and_from_parents_is_bit_equal(
    store: Store, fashion: tuple[np.ndarray, np.ndarray], stored: Stored, make: Callable[[], keras.Model]
) -> None:
    x = fashion[0][:40, ..., None].astype("float32") / 255
    mistique.keras.capture(make(), x, store=store, model="m", dataset="d", batch_size=16, codec="raw")
    capture, _ = store.catalog.find("m@1/d/input")
    assert capture.version.environment["keras_pass"] == "graph"
    model = store.runnable.get(capture.version, took=Took(), calibration=store.calibration)
    for name, node in capture.intermediates.items():
        for sources in {("input",), node.parents} if node.role != "input" else ():
            found, _ = recomputer.run(
                model,
                sources={source: stored(f"m@1/d/{source}") for source in sources},
                target=name,
                intermediates=capture.intermediates,
                batch_rows=16,
                environment=capture.version.environment,
            )
            assert np.array_equal(found, stored(f"m@1/d/{name}")), (name, sources)


@pytest.mark.parametrize("make", [residual, normalized, activated])
def test_the_bits_do_not_depend_on_which_layers_are_fetched(
    fashion: tuple[np.ndarray, np.ndarray], make: Callable[[], keras.Model]
) -> None:
    network, batches = prepared(make(), fashion[0][:16, ..., None] / np.float32(255), 16)
    batch = next(iter(batches))
    names = [output.names[0] for output in network.outputs if output.role != "input"]
    together = network.run(batch, names)
    for name in names:
        assert np.array_equal(network.run(batch, [name])[name], together[name]), name


def test_the_graph_gives_what_the_network_predicts(fashion: tuple[np.ndarray, np.ndarray]) -> None:
    net, x = fashion_cnn(), fashion[0][:32, ..., None] / np.float32(255)
    network, batches = prepared(net, x, 16)
    assert network.kind == "graph"
    found = [network.run(batch, ["prediction"])["prediction"] for batch in batches]
    assert np.array_equal(np.concatenate(found), net.predict(x, batch_size=16, verbose=0))


def test_a_model_that_asks_for_values_runs_eagerly(rows: np.ndarray) -> None:
    class Deciding(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs: object) -> object:
            hidden = self.dense(inputs)
            return hidden * 2 if float(keras.ops.max(hidden)) > 0 else hidden

    net = Deciding()
    network, batches = prepared(net, rows, 10)
    assert network.kind == "eager"
    for batch in batches:
        expected = {o.names[0]: o.values() for o in record_batch(net, as_tensors(batch.inputs)).outputs}
        found = network.run(batch, ["dense", "prediction"])
        assert all(np.array_equal(found[name], expected[name]) for name in ("dense", "prediction"))


def test_a_model_that_does_otherwise_in_a_graph_runs_eagerly(rows: np.ndarray) -> None:
    class TwoFaced(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return inputs * (2.0 if hasattr(inputs, "numpy") else 3.0)

    net = keras.Sequential([keras.Input((4,)), TwoFaced(name="twofaced"), layers.Dense(2)])
    network, batches = prepared(net, rows, 10)
    assert network.kind == "eager"
    assert np.array_equal(network.run(next(iter(batches)), ["twofaced"])["twofaced"], rows[:10] * 2)


def test_its_user_asked_for_eager_runs(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    net.compile(loss="mse", run_eagerly=True)
    assert prepared(net, rows, 10)[0].kind == "eager"


def test_rows_that_fill_no_batch_are_not_traced(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    assert prepared(net, rows, 256)[0].kind == "eager"


def test_the_seconds_of_the_layers_are_those_of_the_graph(rows: np.ndarray, branched: keras.Model) -> None:
    network, batches = prepared(branched, rows, 5)
    names = [output.names[0] for output in network.outputs if output.role != "input"]
    for batch in batches:
        network.run(batch, names)
    network.measure()
    assert network.seconds_per_row.keys() == set(names)
    assert sum(network.seconds_per_row.values()) == pytest.approx(median(network._graph_seconds))


def test_a_captured_network_is_let_go(store: Store, rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    mistique.keras.capture(net, rows, store=store, model="m", dataset="d", batch_size=10, codec="raw")
    gone = weakref.ref(net)
    del net
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


def test_weights_of_a_later_epoch_are_read_by_the_graph_of_the_first(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="d")])
    network, batches = prepared(net, rows, 10)
    net.layers[0].bias.assign([5.0, 6.0])
    batch = next(iter(batches))
    network.prepare(batch, 10)
    assert np.array_equal(network.run(batch, ["prediction"])["prediction"], net.predict_on_batch(batch.inputs))
