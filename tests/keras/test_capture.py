from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique.keras
from mistique.errors import CaptureError, CaptureWarning, ModelMismatchError
from mistique.keras import MistiqueCallback

if TYPE_CHECKING:
    from mistique.store import Store


class Counting(keras.layers.Layer):
    """Counts the rows that really go through, in a graph too."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.n_rows_seen = 0

    def call(self, inputs: object) -> object:
        import tensorflow as tf

        def count(rows: np.ndarray) -> np.ndarray:
            self.n_rows_seen += len(rows)
            return rows * np.float32(2)

        doubled = tf.numpy_function(count, [inputs], tf.float32)
        return tf.ensure_shape(doubled, inputs.shape)


@pytest.mark.tensorflow  # it counts by an operation of TensorFlow's
@pytest.mark.parametrize(("run_eagerly", "n_sampled"), [(False, 2 * (256 // 8)), (True, 0)])
def test_every_row_goes_through_the_network_once_for_all_layers_and_a_sample_to_time_them(
    store: Store, run_eagerly: bool, n_sampled: int
) -> None:
    counting = Counting(name="counting")
    net = keras.Sequential(
        [keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(6)), counting, keras.layers.Dense(1)]
    )
    net.compile(loss="mse", run_eagerly=run_eagerly)
    counting.n_rows_seen = 0
    mistique.keras.capture(net, np.zeros((1000, 4), "float32"), store=store, model="m", dataset="d")
    assert counting.n_rows_seen == 1000 + n_sampled


def test_a_dataset_is_cut_into_the_same_batches_as_an_array(
    store: Store, branched: keras.Model, rows: np.ndarray, stored: Callable[[str], np.ndarray], tf: ModuleType
) -> None:
    y = np.arange(25)
    dataset = tf.data.Dataset.from_tensor_slices((rows, y)).batch(7)
    for name, x, targets in (("array", rows, y), ("set", dataset, None)):
        mistique.keras.capture(branched, x, targets, store=store, model=name, dataset="d", batch_size=10)
    for name in ("input", "inner/one", "shared:1", "prediction", "target"):
        assert np.array_equal(stored(f"array@1/d/{name}"), stored(f"set@1/d/{name}")), name


def test_the_version_of_unchanged_weights_is_shared_and_of_changed_ones_is_new(store: Store, rows: np.ndarray) -> None:
    net = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
    net.compile("sgd", "mse")
    y = np.ones(25, "float32")
    net.fit(rows, y, epochs=2, verbose=0, callbacks=[MistiqueCallback(store, rows, y, model="m")])
    assert mistique.keras.capture(net, rows[:5], store=store, model="m", dataset="test") == "m@1.2"
    assert mistique.keras.capture(net, rows[:7], store=store, model="m", dataset="more") == "m@1.2"
    # The same data set again would take the place of what is there.
    assert mistique.keras.capture(net, rows[:5], store=store, model="m", dataset="test", layers=["dense"]) == "m@2"
    net.fit(rows, y, epochs=1, verbose=0)
    assert mistique.keras.capture(net, rows[:5], store=store, model="m", dataset="other") == "m@3"


def test_row_labels_come_from_the_index_of_a_frame(store: Store, rows: np.ndarray) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows, index=[f"r{i}" for i in range(25)])
    net = keras.Sequential([keras.layers.Dense(2)])
    mistique.keras.capture(net, frame, store=store, model="m", dataset="d")
    capture, _ = store.catalog.find("m@1/d/prediction")
    assert "row_label" in capture.intermediates


def test_bfloat16_comes_back_as_bfloat16(store: Store, rows: np.ndarray, stored: Callable[[str], np.ndarray]) -> None:
    net = keras.Sequential([keras.layers.Dense(3, dtype="bfloat16", name="low"), keras.layers.Dense(1)])
    mistique.keras.capture(net, rows, store=store, codec="raw", model="m", dataset="d")
    found = stored("m@1/d/low")
    assert found.dtype.name == "bfloat16"
    assert np.array_equal(found, keras.ops.convert_to_numpy(net.layers[0](rows)))


def test_a_lossy_codec_leaves_input_and_prediction_exact(
    store: Store, branched: keras.Model, rows: np.ndarray, stored: Callable[[str], np.ndarray]
) -> None:
    mistique.keras.capture(branched, rows, store=store, model="m", dataset="d", codec="power")
    assert np.array_equal(stored("m@1/d/input"), rows)
    assert np.array_equal(stored("m@1/d/prediction"), np.asarray(branched(rows)))
    capture, _ = store.catalog.find("m@1/d/shared")
    assert {capture.intermediates[n].codec["name"] for n in ("shared", "norm")} == {"power"}


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "said"),
    [
        (np.zeros((5, 4)), np.zeros(4), {}, CaptureError, "5 rows of x and 4 of y"),
        (np.zeros((0, 4)), None, {}, CaptureError, "at least one row"),
        (np.zeros((5, 3)), None, {}, ModelMismatchError, r"\(4,\).*got rows of shape \(3,\)"),
        ([np.zeros((5, 4))] * 2, None, {}, ModelMismatchError, "expected 1 inputs, got 2"),
        (np.zeros((5, 4)), None, {"layers": ["shard"]}, CaptureError, "nearest: shared"),
        (np.zeros((5, 4)), None, {"layers": 3}, CaptureError, "names, globs"),
        (np.zeros((5, 4)), None, {"keep": "some"}, CaptureError, "keep"),
        (np.zeros((5, 4)), None, {"row_labels": ["a"]}, CaptureError, "row label for each"),
        (np.zeros((5, 4)), None, {"batch_size": 0}, CaptureError, "batch_size"),
        ("rows.csv", None, {}, CaptureError, "expected arrays"),
    ],
)
def test_bad_input_is_one_error_and_nothing_is_stored(
    store: Store, branched: keras.Model, x: object, y: object, options: dict, error: type, said: str
) -> None:
    with pytest.raises(error, match=said):
        mistique.keras.capture(branched, x, y, store=store, model="m", dataset="d", **options)
    assert store.catalog.captures() == []


def test_an_empty_dataset_is_an_error(store: Store, branched: keras.Model, rows: np.ndarray, tf: ModuleType) -> None:
    empty = tf.data.Dataset.from_tensor_slices(rows).batch(5).take(0)
    with pytest.raises(CaptureError, match="empty data set"):
        mistique.keras.capture(branched, empty, store=store, model="m", dataset="d")


def test_a_subclassed_model_says_what_does_not_fit(store: Store, rows: np.ndarray) -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs: object) -> object:
            return self.dense(inputs)

    net = Net()
    net(rows)
    with pytest.raises(ModelMismatchError, match="incompatible with the layer"):
        mistique.keras.capture(net, rows[:, :2], store=store, model="m", dataset="d")


def test_a_model_that_cannot_be_saved_is_captured_and_the_reason_is_kept(store: Store, rows: np.ndarray) -> None:
    class Unsavable(keras.layers.Layer):
        def __init__(self, function: object) -> None:
            super().__init__()
            self.function = function

        def call(self, inputs: object) -> object:
            return self.function(inputs)

    net = keras.Sequential([keras.layers.Dense(2, name="d"), Unsavable(keras.ops.tanh)])
    mistique.keras.capture(net, rows, store=store, model="m", dataset="d", keep="none")
    capture, dense = store.catalog.find("m@1/d/d")
    assert capture.version.artifact is None
    assert "get_config" in capture.version.artifact_note
    assert "d" in capture.stored
    assert dense.recompute_difference is None


def test_a_class_that_is_found_nowhere_again_is_stored_whatever_was_asked(store: Store, rows: np.ndarray) -> None:
    class Local(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return inputs * 2.0

    net = keras.Sequential([keras.layers.Dense(2, name="d"), Local(name="twice")])
    mistique.keras.capture(net, rows, store=store, model="m", dataset="d", keep="none")
    capture = store.catalog.find("m@1/d/d")[0]
    assert "class 'Local' is not found in its module" in capture.version.artifact_note
    assert {"d", "prediction"} <= set(capture.stored)


def test_a_lambda_that_names_a_module_is_stored_as_keras_keeps_no_modules_with_it(
    store: Store, rows: np.ndarray
) -> None:
    # Loaded again it would be a NameError, at a question asked long after the training.
    twice = keras.layers.Lambda(lambda x: x * 2, name="twice")
    rooted = keras.layers.Lambda(lambda x: keras.ops.sqrt(x * x), name="rooted")
    mistique.keras.capture(keras.Sequential([twice]), rows, store=store, model="a", dataset="d", keep="none")
    mistique.keras.capture(keras.Sequential([twice, rooted]), rows, store=store, model="b", dataset="d", keep="none")
    alone, both = (store.catalog.find(f"{name}@1/d/twice")[0] for name in "ab")
    assert alone.version.artifact is not None
    assert "rooted' names 'keras', which is not saved with it" in both.version.artifact_note
    assert {"twice", "prediction"} <= set(both.stored)
    np.testing.assert_allclose(mistique.get(store, "b@1/d/prediction").to_numpy(), np.abs(rows * 2), rtol=1e-2)


def test_equal_weights_are_kept_once_and_without_the_optimizer(store: Store, rows: np.ndarray) -> None:
    net = keras.Sequential([keras.layers.Dense(64), keras.layers.Dense(1)])
    net.compile("adam", "mse")
    mistique.keras.capture(net, rows, store=store, model="a", dataset="d")
    net.predict(rows, verbose=0)
    mistique.keras.capture(net, rows, store=store, model="b", dataset="d")
    versions = [capture.version for capture in store.catalog.captures()]
    assert versions[0].artifact == versions[1].artifact
    assert net.optimizer is not None
    assert net.compiled


def test_a_layer_without_rows_is_named_in_a_warning_and_the_rest_is_stored(store: Store, rows: np.ndarray) -> None:
    class Table(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return keras.ops.ones((3, 2))

    given = keras.Input((4,))
    table = keras.ops.sum(Table(name="table")(given), axis=0)
    net = keras.Model(given, keras.layers.Dense(2, name="d")(given) + table)
    with pytest.warns(CaptureWarning, match="no row for each row of input: table"):
        mistique.keras.capture(net, rows, store=store, model="m", dataset="d")
    assert store.catalog.find("m@1/d/d")
