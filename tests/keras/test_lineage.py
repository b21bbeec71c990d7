"""What the store holds under its lineage is neither run nor stored again, and only that."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique.keras
from mistique.ingest.capture import Capture
from mistique.keras import MistiqueCallback
from mistique.keras.network import Network

if TYPE_CHECKING:
    from mistique.schema import Intermediate
    from mistique.store import Store

Stored = Callable[[str], np.ndarray]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The outputs that each batch was run for."""
    asked: list[set[str]] = []
    run = Network.run

    def noting(self: Network, batch: object, names: object) -> object:
        asked.append(set(names))
        return run(self, batch, names)

    monkeypatch.setattr(Network, "run", noting)
    return asked


@pytest.fixture
def images() -> np.ndarray:
    """30 images: two batches of 12, which run as a graph, and one of 6, which does not."""
    return np.random.default_rng(0).normal(size=(30, 8, 8, 1)).astype("float32")


def forked(trainable: bool = False) -> keras.Model:
    """A base of convolutions that forks into two branches, and a head that joins them."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    given = keras.Input((8, 8, 1))
    base = layers.Conv2D(4, 3, activation="relu", name="base")(given)
    base = layers.BatchNormalization(name="norm")(base)
    left = layers.Dropout(0.5, name="drop")(layers.Conv2D(4, 3, name="left")(base))
    right = layers.Activation("relu", name="positive")(layers.Conv2D(4, 3, name="right")(base))
    joined = layers.Flatten(name="flat")(layers.Subtract(name="joined")([left, right]))
    net = keras.Model(given, layers.Dense(3, "softmax", name="head")(joined))
    for layer in net.layers[:-1]:
        layer.trainable = trainable
    net.compile("sgd", "sparse_categorical_crossentropy")
    return net


BASE = {"input", "base", "norm", "left", "drop", "right", "positive", "joined", "flat"}


def nodes(store: Store, key: str) -> dict[str, Intermediate]:
    return dict(store.catalog.find(f"{key}/input")[0].intermediates)


@pytest.fixture(autouse=True)
def taken_over(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was recorded from the store; bytes do not tell, as equal chunks of what ran are stored once too."""
    names: list[str] = []
    reuse = Capture.reuse

    def noting(self: Capture, name: str, **facts: object) -> bool:
        is_held = reuse(self, name, **facts)
        names.extend([name] if is_held else [])
        return is_held

    monkeypatch.setattr(Capture, "reuse", noting)
    return names


@pytest.fixture
def reused(store: Store, taken_over: list[str]) -> Callable[..., set[str]]:
    """Captures a network and says what was recorded from the store."""

    def names(net: keras.Model, x: object, **options: object) -> set[str]:
        taken_over.clear()
        capture(net, x, store, **options)
        return set(taken_over)

    return names


def capture(net: keras.Model, x: object, store: Store, **options: object) -> dict[str, Intermediate]:
    options = {"model": "m", "batch_size": 12, "dataset": "d", **options}
    version = mistique.keras.capture(net, x, store=store, **{"codec": "raw", **options})
    return nodes(store, f"{version}/{options['dataset']}")


def test_a_frozen_base_is_run_and_stored_in_the_first_epoch_alone(
    store: Store, images: np.ndarray, ran: list[set[str]], stored: Stored
) -> None:
    net, fresh, y = forked(), [], np.arange(30) % 3

    def keep(epoch: int, logs: object) -> None:
        fresh.append([weights.copy() for weights in net.get_weights()])

    watch = MistiqueCallback(store, images, y, model="m", codec="raw", batch_size=12, on_error="raise")
    net.fit(images, y, epochs=3, verbose=0, callbacks=[watch, keras.callbacks.LambdaCallback(on_epoch_end=keep)])
    assert ran == [(BASE | {"prediction"}) - {"input"}] * 3 + [{"prediction"}] * 6
    first = store.catalog.find("m@1.1/valid/input")[0]
    for number, weights in enumerate(fresh, start=1):
        found = store.catalog.find(f"m@1.{number}/valid/input")[0]
        assert list(found.intermediates) == list(first.intermediates)
        if number > 1:
            assert all(found.intermediates[name].stored_nbytes == 0 for name in BASE | {"target"})
            references = store.catalog.references(found)
            assert all(references[name] == store.catalog.references(first)[name] for name in BASE)
        net.set_weights(weights)
        other = mistique.open(f"{store.uri}-{number}")
        capture(net, images, other, model="fresh")
        for name in found.intermediates.keys() - {"target"}:
            held = mistique.get(store, f"m@1.{number}/valid/{name}").values
            assert np.array_equal(held, mistique.get(other, f"fresh@1/d/{name}").values), name


def test_nothing_runs_when_nothing_is_new(
    store: Store, images: np.ndarray, ran: list[set[str]], reused: Callable[..., set[str]]
) -> None:
    net = forked()
    capture(net, images, store)
    ran.clear()
    assert reused(net, images) == BASE | {"prediction"}
    assert ran == []


def test_a_weight_that_changed_is_a_change_of_its_layer_and_what_follows_it_and_of_nothing_else(
    store: Store, images: np.ndarray, stored: Stored, reused: Callable[..., set[str]]
) -> None:
    net = forked()
    capture(net, images, store)
    kernel, bias = net.get_layer("left").get_weights()
    kernel[0, 0, 0, 0] += 1
    net.get_layer("left").set_weights([kernel, bias])
    assert reused(net, images) == {"input", "base", "norm", "right", "positive"}
    other = mistique.open(store.uri + "-fresh")
    found = capture(net, images, other)
    for name in found:
        assert np.array_equal(stored(f"m@2/d/{name}"), mistique.get(other, f"m@1/d/{name}").values), name


def test_a_moving_average_that_changed_is_a_change(
    store: Store, images: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    net = forked()
    capture(net, images, store)
    net.get_layer("norm").moving_mean.assign([0.5] * 4)
    assert reused(net, images) == {"input", "base"}


def test_a_seed_that_moved_is_no_change_where_nothing_is_drawn(
    store: Store, images: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    net = forked()
    capture(net, images, store)
    net(images, training=True)
    assert "drop" in reused(net, images)


def test_other_rows_types_and_batches_are_other_values(
    store: Store, images: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    net = forked()
    capture(net, images, store)
    changed = images.copy()
    changed[-1, 0, 0, 0] += 1
    assert reused(net, changed) == set()
    assert reused(net, images.astype("float64")) == set()
    assert reused(net, images, batch_size=15) == set()


def test_subtracting_the_other_way_round_is_something_else(
    store: Store, rows: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    given = keras.Input((4,))
    left, right = keras.layers.Dense(3, name="left")(given), keras.layers.Dense(3, name="right")(given)
    one = keras.Model(given, keras.layers.Subtract(name="minus")([left, right]))
    other = keras.Model(given, keras.layers.Subtract(name="minus")([right, left]))
    capture(one, rows, store)
    assert reused(other, rows) == {"input", "left", "right"}


def test_layers_that_are_not_recorded_count_too(
    store: Store, images: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    net = forked()
    capture(net, images, store, layers=["joined"])
    net.get_layer("base").bias.assign([1.0] * 4)
    assert reused(net, images, layers=["joined"]) == {"input"}


def scaling(factor: float, where: object) -> keras.layers.Layer:
    """Two classes of one name, configuration and weights, with other code."""

    def scaled(inputs: object) -> object:
        return inputs * factor

    class Scaled(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return where(inputs) if where is not None else scaled(inputs)

    return Scaled(name="scaled")


def plus_one(inputs: object) -> object:
    return inputs + 1


class Opaque:
    def __call__(self, inputs: object) -> object:
        return inputs * 3


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ((2.0, None), (2.0, None), True),
        ((2.0, None), (3.0, None), False),
        ((2.0, keras.ops.relu), (2.0, keras.ops.relu), True),
        ((2.0, keras.ops.relu), (2.0, plus_one), False),
        # What it does cannot be followed.
        ((2.0, Opaque()), (2.0, Opaque()), False),
    ],
)
def test_a_layer_of_ones_own_is_told_by_its_code(
    store: Store, rows: np.ndarray, before: tuple, after: tuple, is_same: bool, reused: Callable[..., set[str]]
) -> None:
    for number, (factor, where) in enumerate((before, after), start=1):
        keras.utils.set_random_seed(1)
        net = keras.Sequential([keras.Input((4,)), scaling(factor, where), keras.layers.Dense(2, name="last")])
        expected = set() if number == 1 else {"input", "scaled", "prediction"} if is_same else {"input"}
        assert reused(net, rows) == expected


def test_an_attribute_that_changed_is_a_change(store: Store, rows: np.ndarray) -> None:
    class Powered(keras.layers.Layer):
        exponent = 1

        def call(self, inputs: object) -> object:
            return inputs**self.exponent

    layer = Powered(name="powered")
    layer.exponent = 2
    net = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    watch = MistiqueCallback(store, rows, model="m", codec="raw", batch_size=10, on_error="raise")

    def change(epoch: int, logs: object) -> None:
        layer.exponent = 3

    net.compile("sgd", "mse", run_eagerly=False)
    changing = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: change(epoch, logs) if epoch else None)
    net.fit(rows, np.zeros((25, 2)), epochs=2, verbose=0, callbacks=[changing, watch])
    assert np.allclose(mistique.get(store, "m@1.2/valid/powered").values, rows**3)


def test_a_function_of_ones_own_as_an_activation_is_told_by_its_code(
    store: Store, rows: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    for number, factor in enumerate((2.0, 2.0, 3.0)):

        def activation(values: object, factor: float = factor) -> object:
            return values * factor

        keras.utils.set_random_seed(1)
        net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation=activation, name="last")])
        assert ("prediction" in reused(net, rows)) == (number == 1)


def test_a_layer_that_draws_in_inference_is_run_each_time(
    store: Store, rows: np.ndarray, reused: Callable[..., set[str]]
) -> None:
    class Drawing(keras.layers.Layer):
        def __init__(self, **kwargs: object) -> None:
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(5)

        def call(self, inputs: object) -> object:
            return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed_generator)

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), Drawing(), keras.layers.Dense(1)])
    capture(net, rows, store)
    assert reused(net, rows) == {"input", "a"}


def test_python_that_decides_by_values_has_no_lineage(store: Store, rows: np.ndarray) -> None:
    class Deciding(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(3)

        def call(self, inputs: object) -> object:
            layer = self.first if float(keras.ops.mean(inputs)) > 0 else self.second
            return layer(inputs)

    net = Deciding()
    found = capture(net, np.abs(rows), store)
    assert store.catalog.find("m@1/d/input")[0].version.environment["keras_pass"] == "eager"
    assert {name for name, node in found.items() if node.lineage} == set()


def test_a_dataset_is_read_again_but_what_is_held_is_not_run(
    store: Store, images: np.ndarray, ran: list[set[str]], taken_over: list[str], tf: ModuleType
) -> None:
    net, y = forked(), np.arange(30) % 3
    rows_of = tf.data.Dataset.from_tensor_slices((images, y)).batch(7)
    watch = MistiqueCallback(store, rows_of, model="m", codec="raw", batch_size=12, on_error="raise")
    net.fit(images, y, epochs=2, verbose=0, callbacks=[watch])
    assert ran[3:] == [{"prediction"}] * 3
    assert taken_over == [name for name in nodes(store, "m@1.1/valid") if name != "prediction"]


def test_what_is_only_declared_is_not_taken_from_what_is_held(store: Store, images: np.ndarray) -> None:
    net = forked()
    capture(net, images, store)
    found = capture(net, images, store, keep="none")
    assert "left" not in store.catalog.find("m@2/d/left")[0].stored
    assert found["left"].references is None
