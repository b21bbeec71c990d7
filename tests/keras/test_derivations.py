"""A layer's rule gives what the layer gives, NaN included; and such layers are answered without being stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

import mistique.keras
from mistique.errors import NoPlanError, UntrustedArtifactError
from mistique.keras.derivations import confirmed_derivations, derivation_of
from mistique.keras.examples import fashion_cnn
from mistique.keras.recorder import record_batch
from mistique.keras.tensors import as_tensors
from mistique.planner.derive import derive_rows

if TYPE_CHECKING:
    from mistique.store import Store

# On other backends kernels differ in what they make of NaN, and a rule that does not hold is not used.
pytestmark = pytest.mark.tensorflow

layers = keras.layers
LEFT_OUT = ("pool1", "pool2", "flatten", "dropout")

WINDOWED = [
    (pooling, shape, arguments)
    for pooling, shape in (
        (layers.MaxPooling1D, (9, 4)),
        (layers.MaxPooling2D, (9, 8, 4)),
        (layers.AveragePooling1D, (9, 4)),
        (layers.AveragePooling2D, (9, 8, 4)),
        (layers.AveragePooling3D, (5, 6, 7, 2)),
    )
    for arguments in (
        {"pool_size": 2},
        {"pool_size": 3, "strides": 2, "padding": "same"},
        {"pool_size": 3, "strides": 1, "padding": "valid"},
    )
]
OTHERS = [
    (layers.GlobalMaxPooling2D, (5, 6, 3), {}),
    (layers.GlobalMaxPooling1D, (5, 3), {"keepdims": True}),
    (layers.GlobalAveragePooling1D, (50, 3), {}),
    (layers.GlobalAveragePooling2D, (5, 6, 3), {"keepdims": True}),
    (layers.GlobalAveragePooling3D, (5, 6, 2, 3), {}),
    (layers.Flatten, (5, 6, 3), {}),
    (layers.Reshape, (5, 6, 3), {"target_shape": (2, -1)}),
    (layers.Permute, (5, 6, 3), {"dims": (3, 1, 2)}),
    (layers.Dropout, (6,), {"rate": 0.5}),
    (layers.SpatialDropout2D, (5, 6, 3), {"rate": 0.5}),
    (layers.GaussianNoise, (6,), {"stddev": 1.0}),
    (layers.GaussianDropout, (6,), {"rate": 0.5}),
    (layers.AlphaDropout, (6,), {"rate": 0.5}),
    (layers.ActivityRegularization, (6,), {"l2": 0.1}),
    (layers.Identity, (6,), {}),
]


def values_with_all_kinds(shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20, *shape)).astype(np.float32)
    kinds = rng.integers(0, 20, values.shape)
    for kind, value in enumerate((np.nan, np.inf, -np.inf, 0.0, -0.0)):
        values[kinds == kind] = value
    return values


def rule_and_output(layer: Any, values: np.ndarray) -> tuple[Any, np.ndarray]:
    given = keras.Input(values.shape[1:], dtype=values.dtype.name)
    net = keras.Model(given, layers.Activation("relu")(layer(given)))
    outputs = record_batch(net, as_tensors(values)).outputs
    return confirmed_derivations(outputs).get(layer.name), outputs[1].values()


@pytest.mark.parametrize(
    ("kind", "shape", "arguments"), [*WINDOWED, *OTHERS], ids=lambda part: getattr(part, "__name__", None)
)
def test_the_rule_of_a_layer_gives_what_the_layer_gives(
    kind: Any, shape: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    values = values_with_all_kinds(shape)
    rule, gave = rule_and_output(kind(name="it", **arguments), values)
    assert rule is not None
    found, bound = derive_rows(rule, values, gave.shape[1:])
    assert found.dtype == gave.dtype
    if "average" in rule["op"]:
        with np.errstate(invalid="ignore"):
            is_near = np.abs(found.astype(np.float64) - gave) <= bound
        assert (is_near | (found == gave) | (np.isnan(found) & np.isnan(gave))).all()
        assert 0.0 < bound < 1e-4
    else:
        assert np.array_equal(found, gave, equal_nan=True)
        assert bound == 0.0


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_maximum_keeps_the_sign_of_zero_that_the_layer_keeps(padding: str) -> None:
    values = np.where(np.random.default_rng(0).random((20, 8, 7, 4)) < 0.5, -0.0, 0.0).astype(np.float32)
    rule, gave = rule_and_output(layers.MaxPooling2D(3, 2, padding=padding, name="it"), values)
    found, _ = derive_rows(rule, values, gave.shape[1:])
    assert np.array_equal(np.signbit(found), np.signbit(gave))


class OwnPooling(layers.MaxPooling2D):
    def call(self, inputs: Any) -> Any:
        return super().call(inputs) + 1


@pytest.mark.parametrize(
    "layer",
    [
        OwnPooling(name="own"),
        layers.MaxPooling2D(data_format="channels_first"),
        layers.Conv2D(3, 1),
        layers.Lambda(lambda x: x),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_may_compute_something_else_has_no_rule(layer: Any) -> None:
    assert derivation_of(layer, (4, 4, 3), (2, 2, 3)) is None


class AlwaysDropping(keras.Model):
    """Monte Carlo dropout: its answers differ from call to call on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.score = layers.Dropout(0.5), layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.score(self.on(inputs, training=True))


def test_dropout_that_is_on_at_inference_has_no_rule() -> None:
    outputs = record_batch(AlwaysDropping(), as_tensors(np.ones((20, 6), np.float32))).outputs
    assert "on" in [output.names[0] for output in outputs]
    assert confirmed_derivations(outputs) == {}


def test_a_masked_average_and_a_cast_have_no_rule() -> None:
    given = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(6, 3, mask_zero=True, name="embed")(given)
    net = keras.Model(given, layers.Dense(1)(layers.GlobalAveragePooling1D(name="mean")(hidden)))
    x = np.array([[1, 2, 0, 0], [1, 2, 3, 4]], np.int32)
    assert "mean" not in confirmed_derivations(record_batch(net, as_tensors(x)).outputs)
    given = keras.Input((4,))
    net = keras.Model(given, layers.Dense(1)(layers.Dropout(0.5, name="low", dtype="float16")(given)))
    outputs = record_batch(net, as_tensors(np.random.default_rng(0).random((3, 4), np.float32))).outputs
    assert "low" not in confirmed_derivations(outputs)


def test_a_layer_behind_others_that_are_not_recorded_has_no_rule() -> None:
    x = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    outputs = record_batch(fashion_cnn(), as_tensors(x), wanted=["conv1", "pool2"]).outputs
    (pool2,) = (output for output in outputs if "pool2" in output.names)
    assert pool2.parents == {"conv1"}
    assert confirmed_derivations(outputs) == {}


@pytest.fixture(autouse=True)
def _a_model_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a small network may be predicted to be quicker than a read: roads must not depend on that."""
    monkeypatch.setattr("mistique.planner.roads.ready_seconds", lambda *_: 1e9)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from mistique.data import load_fashion_mnist

    return load_fashion_mnist()[0][:300].astype(np.float32) / 255


def captured(store: Store, images: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    """Capture under ``net@1/test``; what every layer gave."""
    net = fashion_cnn()
    mistique.keras.capture(net, images, store=store, model="net", dataset="test", batch_size=100, **options)
    outputs = [o for start in (0, 100, 200) for o in record_batch(net, as_tensors(images[start : start + 100])).outputs]
    names = dict.fromkeys(output.names[0] for output in outputs)
    return {name: np.concatenate([o.values() for o in outputs if o.names[0] == name]) for name in names}


def test_by_default_pools_and_the_like_are_not_stored_and_answered_within_the_bound(
    store: Store, images: np.ndarray
) -> None:
    expected = captured(store, images)
    capture, _ = store.catalog.find("net@1/test/input")
    stages = {name: node for name, node in capture.intermediates.items() if node.role == "stage"}
    assert {name for name in stages if name not in capture.stored} == set(LEFT_OUT)
    assert {stages[name].codec["name"] for name in stages} == {"power"}
    assert capture.intermediates["prediction"].codec["name"] == "raw"
    for name in LEFT_OUT:
        assert stages[name].stored_nbytes == 0
        answer = mistique.get(store, f"net@1/test/{name}")
        assert answer.plan.chosen.road.startswith("derive from ")
        assert np.abs(answer.values - expected[name]).max() <= answer.max_abs_error < 0.2
        some = mistique.get(store, f"net@1/test/{name}", rows=[299, 7], unit=[3, 1])
        assert np.array_equal(some.values, answer.values[[299, 7]][..., [3, 1]])
        exact = mistique.get(store, f"net@1/test/{name}", exact=True)
        assert exact.plan.chosen.road == "recompute"
        assert np.array_equal(exact.values, expected[name])


def test_from_an_exact_parent_the_answer_is_bit_equal_and_called_exact(store: Store, images: np.ndarray) -> None:
    net = fashion_cnn()
    with store.capture(model="net", dataset="test", framework="none") as capture:
        outputs = record_batch(net, as_tensors(images)).outputs
        rules = confirmed_derivations(outputs)
        for output in outputs:
            name, codec = output.names[0], None if output.names[0] in rules else "raw"
            parents = tuple(output.parents or ())
            facts = {"role": output.role, "parents": parents, "derivation": rules.get(name), "codec": codec}
            capture.append(name, output.values(), **facts)
    assert set(LEFT_OUT) == set(rules)
    for output in outputs:
        answer = mistique.get(store, f"net@1/test/{output.names[0]}", exact=True)
        assert np.array_equal(answer.values, output.values())
        assert answer.max_abs_error == 0.0


def test_one_unit_of_a_pool_reads_one_unit_of_its_parent(store: Store, images: np.ndarray) -> None:
    captured(store, images)
    one, whole = (mistique.explain(store, "net@1/test/pool1", unit=unit).chosen for unit in (3, None))
    assert one.road == whole.road == "derive from conv1"
    assert one.predicted_nbytes <= whole.predicted_nbytes / 16 + 1
    assert "max_pool" in repr(mistique.explain(store, "net@1/test/pool1"))


def test_the_largest_of_a_pool_are_those_of_what_is_derived(store: Store, images: np.ndarray) -> None:
    expected = captured(store, images)
    answer = mistique.topk(store, "net@1/test/pool1", unit=3, k=5)
    largest = expected["pool1"][..., 3].reshape(300, -1).max(axis=1)
    assert answer.plan.chosen.road == "derive from conv1"
    assert (largest[answer.rows] >= np.sort(largest)[-5] - 2 * answer.max_abs_error).all()


def test_a_store_of_a_stranger_answers_what_was_left_out(
    store: Store, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = captured(store, images)
    store.close()
    shutil.copytree(store.uri, tmp_path / "theirs")
    monkeypatch.setenv("MISTIQUE_SIGNING_KEY", "another user's key, of 32 bytes!")
    theirs = mistique.open(tmp_path / "theirs", mode="r")
    answer = mistique.get(theirs, "net@1/test/flatten", rows=[5])
    assert np.abs(answer.values - expected["flatten"][[5]]).max() <= answer.max_abs_error


def test_an_explicit_codec_stores_every_layer(store: Store, images: np.ndarray) -> None:
    captured(store, images, codec="power")
    capture, _ = store.catalog.find("net@1/test/input")
    assert set(LEFT_OUT) <= capture.stored
    assert mistique.get(store, "net@1/test/pool1").plan.chosen.road == "read"


def test_without_its_ancestor_what_was_left_out_is_recomputed(store: Store, images: np.ndarray) -> None:
    expected = captured(store, images)
    store.drop("net@1/test/conv1")
    answer = mistique.get(store, "net@1/test/pool1")
    assert answer.plan.chosen.road == "recompute"
    assert np.array_equal(answer.values, expected["pool1"])


def test_a_model_that_was_not_kept_is_not_needed(store: Store, images: np.ndarray) -> None:
    class Unsavable(layers.Layer):
        def __init__(self, hidden: object) -> None:
            super().__init__(name="own")

        def call(self, inputs: Any) -> Any:
            return inputs * 2

    net = keras.Sequential([keras.Input((28, 28, 1)), Unsavable(object()), layers.MaxPooling2D(name="pool")])
    net.add(layers.Flatten(name="last"))
    net.add(layers.Dense(1))
    mistique.keras.capture(net, images, store=store, model="own", dataset="test")
    answer = mistique.get(store, "own@1/test/pool")
    assert answer.plan.chosen.road == "derive from own"
    blocks = 2 * images.reshape(300, 14, 2, 14, 2, 1).max(axis=(2, 4))
    assert np.abs(answer.values - blocks).max() <= answer.max_abs_error
    with pytest.raises(NoPlanError, match="lossy codec power"):
        mistique.get(store, "own@1/test/pool", exact=True)


def test_a_model_that_may_not_be_loaded_is_no_road_however_cheap(
    store: Store, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = keras.Sequential([keras.Input((28, 28, 1)), layers.Lambda(lambda x: x + 1, name="own")])
    net.add(layers.MaxPooling2D(name="pool"))
    net.add(layers.Dense(1))
    mistique.keras.capture(net, images, store=store, model="net", dataset="test")
    store.close()
    monkeypatch.setenv("MISTIQUE_SIGNING_KEY", "another user's key, of 32 bytes!")
    monkeypatch.setattr("mistique.planner.roads.ready_seconds", lambda *_: -1e9)
    theirs = mistique.open(store.uri, mode="r")
    answer = mistique.get(theirs, "net@1/test/pool")
    assert answer.plan.chosen.road == "derive from own"
    assert "no trust was given" in repr(answer.plan)
    with pytest.raises(UntrustedArtifactError):
        mistique.get(theirs, "net@1/test/pool", exact=True)
