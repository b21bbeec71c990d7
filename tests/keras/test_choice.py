"""Which layers are taken, and the masks that come with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

from mistique.errors import CaptureError
from mistique.keras import MistiqueCallback, capture

if TYPE_CHECKING:
    from mistique.store import Store

Stored = Callable[[str], np.ndarray]


def taken(store: Store, key: str) -> list[str]:
    captured = store.catalog.find(key)[0].intermediates.values()
    return [node.name for node in captured if node.role in ("stage", "prediction")]


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ("shared", ["shared"]),
        (["shared*"], ["shared", "shared:1"]),
        ("inner/*", ["inner/one", "inner/two"]),
        ("*/t?o", ["inner/two"]),
        (keras.layers.Dropout, ["drop"]),
        ([keras.layers.BatchNormalization, "score"], ["norm", "prediction"]),
        (lambda layer: getattr(layer, "units", 0) == 5, ["inner/one"]),
        ([lambda layer: layer.name == "drop", "norm"], ["norm", "drop"]),
    ],
)
def test_layers_are_chosen_by_name_glob_class_and_function(
    store: Store, branched: keras.Model, rows: np.ndarray, layers: object, found: list[str]
) -> None:
    # Batches of 10 are traced, the last of 5 runs eagerly: the choice is the same.
    capture(branched, rows, store=store, model="m", dataset="d", layers=layers, batch_size=10)
    assert taken(store, "m@1/d/input") == found
    assert all(store.catalog.find(f"m@1/d/{name}")[1].n_rows == 25 for name in found)


def test_a_layer_itself_is_a_choice(store: Store, branched: keras.Model, rows: np.ndarray) -> None:
    capture(branched, rows, store=store, model="m", dataset="d", layers=[branched.get_layer("norm")])
    assert taken(store, "m@1/d/input") == ["norm"]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("conv*", r"no layer 'conv\*'"),
        (keras.layers.LSTM, "no layer that is a LSTM; it has inner/one"),
        (lambda layer: False, "no layer that fits"),
        (["norm", 7], "got 7"),
    ],
)
def test_a_choice_of_nothing_is_an_error(
    store: Store, branched: keras.Model, rows: np.ndarray, layers: object, said: str
) -> None:
    with pytest.raises(CaptureError, match=said):
        capture(branched, rows, store=store, model="m", dataset="d", layers=layers)


def test_what_is_no_choice_is_said_before_training(store: Store, rows: np.ndarray) -> None:
    with pytest.raises(CaptureError, match="layers: expected names"):
        MistiqueCallback(store, rows, model="m", layers=3)


@pytest.fixture
def masked() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(6, 3, mask_zero=True, name="embed"),
            layers.LSTM(2, return_sequences=True, name="lstm"),
            layers.GlobalAveragePooling1D(name="mean"),
            layers.Dense(1, name="score"),
        ]
    )


IDS = np.array([[1, 2, 0, 0], [1, 2, 3, 4], [5, 0, 0, 0]] * 4)


@pytest.mark.supported("masks", "stored once, answering for each layer that hands them on")
@pytest.mark.parametrize("batch_size", [5, 12])
def test_padded_steps_look_like_data_until_the_mask_stored_beside_them_is_used(
    store: Store, masked: keras.Model, stored: Stored, batch_size: int
) -> None:
    # Symptom: keras issue 6776.
    capture(masked, IDS, store=store, model="m", dataset="d", codec="raw", batch_size=batch_size)
    mask, lstm = stored("m@1/d/embed/mask").astype(bool), stored("m@1/d/lstm")
    assert np.array_equal(mask, IDS != 0)
    assert lstm[0, 3].any()  # the last real output again
    means = (lstm * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(means, stored("m@1/d/mean"), rtol=1e-5)
    # One mask is handed on from layer to layer: stored once, it answers for each.
    assert np.array_equal(stored("m@1/d/lstm/mask").astype(bool), mask)


def test_a_mask_comes_with_its_layer_and_when_no_layer_is_kept(
    store: Store, masked: keras.Model, stored: Stored
) -> None:
    capture(masked, IDS, store=store, model="one", dataset="d", layers=["lstm"], batch_size=5)
    capture(masked, IDS, store=store, model="none", dataset="d", keep="none", batch_size=5)
    for key in ("one@1/d/lstm/mask", "none@1/d/embed/mask"):
        assert np.array_equal(stored(key).astype(bool), IDS != 0)


def test_masks_of_a_frozen_embedding_are_stored_after_each_epoch(store: Store, stored: Stored) -> None:
    layers = keras.layers
    embed = layers.Embedding(6, 3, mask_zero=True, name="embed", trainable=False)
    net = keras.Sequential([keras.Input((4,), dtype="int32"), embed, layers.LSTM(2, name="lstm"), layers.Dense(1)])
    net.compile("sgd", "mse")
    watch = MistiqueCallback(store, IDS, model="m", batch_size=5, on_error="raise")
    net.fit(IDS, np.ones(12), epochs=2, verbose=0, callbacks=[watch])
    for epoch in (1, 2):
        assert np.array_equal(stored(f"m@1.{epoch}/valid/embed/mask").astype(bool), IDS != 0)
