from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.errors import CaptureError, CaptureWarning, MistiqueError
from mistique.keras import MistiqueCallback

if TYPE_CHECKING:
    from mistique.store import Store

Fashion = tuple[np.ndarray, np.ndarray]


class Counted(keras.layers.Layer):
    """Counts in a variable of TensorFlow's."""

    def __init__(self) -> None:
        super().__init__()
        self.n = pytest.importorskip("tensorflow").Variable(0.0)

    def call(self, inputs: object) -> object:
        self.n.assign_add(1.0)
        return inputs + self.n / 100


class Noise(keras.layers.Layer):
    """Draws and counts, in inference too."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(3)
        self.n_calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="n_calls")

    def call(self, inputs: object) -> object:
        self.n_calls.assign_add(1.0)
        self.add_loss(keras.ops.mean(inputs))
        return inputs + keras.random.normal(keras.ops.shape(inputs), stddev=0.01, seed=self.seed_generator)


def cnn() -> keras.Model:
    keras.utils.set_random_seed(11)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255, name="scale"),
            keras.layers.Conv2D(4, 3, strides=3, activation="relu", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.4, name="drop"),
            keras.layers.Flatten(name="flat"),
            Noise(name="noise"),
            keras.layers.Dense(10, "softmax", name="probability", activity_regularizer="l2"),
        ]
    )


def small() -> keras.Model:
    """Quick to trace, where the network does not matter."""
    keras.utils.set_random_seed(11)
    layers = [keras.layers.Flatten(name="flat"), keras.layers.Dense(10, "softmax", name="probability")]
    return keras.Sequential([keras.Input((28, 28, 1)), *layers])


def train(net: keras.Model, fashion: Fashion, *callbacks: keras.callbacks.Callback, **options: object) -> dict:
    images, labels = fashion
    compiled = {"steps_per_execution": options.pop("steps_per_execution", 1)}
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **compiled)
    options = {"epochs": 3, "batch_size": 50, "verbose": 0, **options}
    return net.fit(images, labels, callbacks=list(callbacks), **options).history


def values_of(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable.value)


@pytest.mark.usefixtures("tf")  # which Rescaling needs on every backend
def test_training_ends_in_the_same_weights_and_history_bit_for_bit(store: Store, fashion: Fashion) -> None:
    plain, watched = cnn(), cnn()
    plain_history = train(plain, fashion, validation_data=fashion)
    after_plain = np.random.random()  # noqa: NPY002 - the global generator is what is compared
    keras.utils.set_random_seed(11)
    watched = cnn()
    watch = MistiqueCallback(store, fashion[0][:70], model="cnn", batch_size=32, on_error="raise")
    watched_history = train(watched, fashion, watch, validation_data=fashion)
    assert np.random.random() == after_plain  # noqa: NPY002
    assert watched_history == plain_history
    for one, other in zip(plain.variables, watched.variables, strict=True):
        assert np.array_equal(values_of(one), values_of(other)), one.path
    for one, other in zip(plain.optimizer.variables, watched.optimizer.variables, strict=True):
        assert np.array_equal(values_of(one), values_of(other)), one.path
    assert watch.captured == ["cnn@1.1", "cnn@1.2", "cnn@1.3"]


@pytest.mark.usefixtures("tf")  # which Rescaling needs on every backend
def test_each_epoch_holds_what_the_network_gave_in_inference_mode(
    store: Store, fashion: Fashion, stored: Callable[[str], np.ndarray]
) -> None:
    net = keras.Sequential([layer for layer in cnn().layers if layer.name != "noise"])
    train(net, fashion, MistiqueCallback(store, fashion[0][:70], fashion[1][:70], model="cnn", on_error="raise"))
    expected = np.asarray(net(fashion[0][:70], training=False))
    assert np.array_equal(stored("cnn@1.3/valid/prediction"), expected)
    assert not np.array_equal(stored("cnn@1.2/valid/prediction"), expected)
    assert np.array_equal(stored("cnn@1.3/valid/input"), fashion[0][:70])
    assert np.array_equal(stored("cnn@1.3/valid/target").ravel(), fashion[1][:70])


@pytest.mark.usefixtures("tf")  # which Rescaling needs on every backend
def test_steps_per_execution_changes_no_capture(
    store: Store, fashion: Fashion, stored: Callable[[str], np.ndarray]
) -> None:
    for name, steps in (("one", 1), ("three", 3)):
        train(
            cnn(),
            fashion,
            MistiqueCallback(store, fashion[0][:40], model=name, layers=["conv"], on_error="raise"),
            steps_per_execution=steps,
            epochs=2,
        )
    for epoch in ("1.1", "1.2"):
        assert np.array_equal(stored(f"one@{epoch}/valid/conv"), stored(f"three@{epoch}/valid/conv"))


def test_every_second_epoch_and_the_last(store: Store, fashion: Fashion) -> None:
    watch = MistiqueCallback(store, fashion[0][:20], model="cnn", every=2, layers=["flat"])
    train(small(), fashion, watch)
    assert watch.captured == ["cnn@1.2", "cnn@1.3"]


def test_the_last_epoch_is_captured_when_training_stops_early(store: Store, fashion: Fashion) -> None:
    net = small()

    def end(epoch: int, logs: object) -> None:
        net.stop_training = epoch == 1

    # After ours in the list, so at the end of the epoch ours does not know yet.
    stop = keras.callbacks.LambdaCallback(on_epoch_end=end)
    watch = MistiqueCallback(store, fashion[0][:20], model="cnn", every=100, layers=["flat"])
    train(net, fashion, watch, stop, epochs=9)
    assert watch.captured == ["cnn@1.2"]


def test_a_second_fit_is_a_second_run(store: Store, fashion: Fashion) -> None:
    net, watch = small(), MistiqueCallback(store, fashion[0][:20], model="cnn", layers=["flat"])
    train(net, fashion, watch, epochs=1)
    train(net, fashion, watch, epochs=1)
    assert watch.captured == ["cnn@2.1"]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((5, 28, 28, 1)), np.zeros(4), "expected x and y of one length"),
        (np.zeros((0, 28, 28, 1)), None, "at least one row"),
        (np.zeros((5, 9, 9, 1)), None, r"expected rows of shape \(28, 28, 1\)"),
    ],
)
def test_a_capture_that_fails_warns_once_and_training_goes_on(
    store: Store, fashion: Fashion, x: np.ndarray, y: np.ndarray | None, said: str
) -> None:
    plain_history = train(small(), fashion)
    with pytest.warns(CaptureWarning, match=said) as warned:
        history = train(small(), fashion, MistiqueCallback(store, x, y, model="cnn"))
    assert len([w for w in warned if issubclass(w.category, CaptureWarning)]) == 1
    assert history == plain_history
    assert store.catalog.captures() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"store": "fashion.mistique"}, "expected a store"),
        ({"model": "cnn@1"}, "without '@'"),
        ({"dataset": "a/b"}, "without a slash"),
        ({"codec": "zip"}, "expected a codec"),
        ({"keep": "some"}, "keep="),
        ({"on_error": "shrug"}, "on_error="),
        ({"every": 0}, "every: expected at least 1"),
    ],
)
def test_an_argument_that_means_nothing_is_told_before_the_training(
    store: Store, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(MistiqueError, match=said):
        MistiqueCallback(**{"store": store, "x": np.zeros((2, 3)), "model": "cnn", **wrong})  # type: ignore[arg-type]


def test_asked_for_errors_a_failing_capture_raises(store: Store, fashion: Fashion) -> None:
    with pytest.raises(CaptureError, match="one length"):
        train(small(), fashion, MistiqueCallback(store, fashion[0], np.zeros(3), model="cnn", on_error="raise"))


def test_an_endless_dataset_is_asked_for_take(store: Store, fashion: Fashion, tf: ModuleType) -> None:
    endless = tf.data.Dataset.from_tensor_slices(fashion[0][:20]).batch(5).repeat()
    with pytest.warns(CaptureWarning, match=r"dataset\.take\(n\)"):
        history = train(small(), fashion, MistiqueCallback(store, endless, model="cnn"))
    assert len(history["loss"]) == 3


def test_a_dataset_in_a_new_order_each_time_is_refused(store: Store, fashion: Fashion, tf: ModuleType) -> None:
    shuffled = tf.data.Dataset.from_tensor_slices(fashion[0][:20]).shuffle(20).batch(5)
    with pytest.warns(CaptureWarning, match="the same rows each time"):
        train(small(), fashion, MistiqueCallback(store, shuffled, model="cnn"), epochs=1)


def test_a_dataset_that_gives_other_rows_in_the_second_epoch_is_refused(
    store: Store, fashion: Fashion, tf: ModuleType
) -> None:
    n_reads = iter(range(100))

    def generate() -> object:
        yield from fashion[0][next(n_reads) :][:10]

    changing = tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec((28, 28, 1), tf.uint8))
    watch = MistiqueCallback(store, changing.batch(4), model="cnn", layers=["flat"])
    with pytest.warns(CaptureWarning, match="the same rows each time"):
        train(small(), fashion, watch)
    assert watch.captured == ["cnn@1.1"]


def test_no_warning_comes_from_a_capture_that_works(store: Store, fashion: Fashion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(small(), fashion, MistiqueCallback(store, fashion[0][:20], model="cnn"), epochs=1)


@pytest.mark.supported("a training and a validation set, a callback each", "one version of both")
def test_two_callbacks_over_two_data_sets_capture_the_same_versions(store: Store, rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(1)])
    net.compile("sgd", "mse")
    for run in (1, 2):
        both = [
            MistiqueCallback(store, some, model="m", dataset=name, on_error="raise")
            for name, some in (("train", rows), ("valid", rows[:9]))
        ]
        net.fit(rows, np.ones(25), epochs=2, verbose=0, callbacks=both)
        assert both[0].captured == both[1].captured == [f"m@{run}.1", f"m@{run}.2"]
    assert len(mistique.get(store, "m@latest/train/h").rows) == 25
    assert len(mistique.get(store, "m@latest/valid/h").rows) == 9


@pytest.mark.supported(
    "stateful RNNs, variables of TensorFlow's in a layer",
    "each batch begins with the states that the training left, and leaves them; always stored",
)
@pytest.mark.tensorflow
def test_states_that_are_no_weights_are_those_that_the_training_left(store: Store) -> None:
    # Of a stateful RNN, and of a layer that counts in a variable of TensorFlow's.
    x, y = np.random.default_rng(0).normal(size=(2, 40, 6, 1)).astype("float32")

    ends = []
    for is_watched in (False, True):
        keras.utils.set_random_seed(1)
        given = keras.Input(batch_shape=(8, 6, 1))
        net = keras.Model(given, keras.layers.Dense(1)(keras.layers.LSTM(3, stateful=True, name="l")(Counted()(given))))
        net.compile("adam", "mse")
        watch = MistiqueCallback(store, x, y[:, 0], model="m", batch_size=8, keep="none", on_error="raise")
        callbacks = [watch] if is_watched else []
        history = net.fit(x, y[:, 0], epochs=2, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks).history
        ends.append((history["loss"], *net.get_weights(), *(np.asarray(s.value) for s in net.get_layer("l").states)))
    for one, other in zip(*ends, strict=True):
        assert np.array_equal(one, other)
    capture, lstm = store.catalog.find("m@1.2/valid/l")
    assert "l" in capture.stored
    assert "states" in lstm.recompute_note
