"""The questions of the diagnosis room over a real network: what was planted in it is found."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest

import mistique
import mistique.keras
from mistique.store import Store


@pytest.fixture
def trained(store: Store, fashion: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Three epochs over pictures, of which those with an odd number are turned upside down; pictures and classes.

    Unit 3 of the dense layer is dead: its bias holds it down.
    """
    images, classes = fashion
    x = images.astype("float32") / 255
    x[1::2] = x[1::2, ::-1]
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, strides=2, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(16, activation="relu", name="dense"),
            layers.Dense(10, activation="softmax", name="classes"),
        ]
    )
    kernel, bias = net.get_layer("dense").get_weights()
    net.get_layer("dense").set_weights([kernel, bias - 100 * (np.arange(16) == 3)])
    net.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    callback = mistique.keras.MistiqueCallback(store, x, classes, model="lab/cnn", dataset="train")
    net.fit(x[::2], classes[::2], epochs=3, batch_size=4, verbose=0, callbacks=[callback])
    mistique.keras.capture(net, x * 0.2, classes, store=store, model="lab/cnn", dataset="dark")
    return x, classes


def test_what_was_planted_in_a_network_is_found(store: Store, trained: tuple[np.ndarray, np.ndarray]) -> None:
    x, classes = trained
    dead = mistique.dead_units(store, "lab/cnn@1/train/dense")
    assert dead.versions.tolist() == ["1.1", "1.2", "1.3"]
    assert all(3 in never for never in dead.never)

    course = mistique.epochs(store, "lab/cnn@1/train", n_rows=200)
    assert course.columns == ("1.1", "1.2", "1.3")
    np.testing.assert_allclose(course.values[:, -1], 1.0, atol=1e-6)
    assert (course.values[:, 0] < course.values[:, 1]).all()

    facts = pd.DataFrame({"is_turned": np.arange(len(x)) % 2 == 1, "hundred": np.arange(len(x)) // 100})
    worst = mistique.slices(store, "lab/cnn@1.3/train", by=facts)
    assert worst.conditions[0] == (("is_turned", "True"),)
    scores = mistique.get(store, "lab/cnn@1.3/train/prediction").values
    wrong = scores.argmax(axis=1) != classes
    assert worst.values[0, 1] == pytest.approx(wrong[1::2].mean())


def test_the_stage_where_dark_pictures_part_and_a_row_of_both(
    store: Store, trained: tuple[np.ndarray, np.ndarray]
) -> None:
    train, dark = "lab/cnn@1.3/train", "lab/cnn@latest/dark"
    answer = mistique.drift(store, train, other=dark)
    assert answer.parted_at == "input"
    assert not answer.is_drifted[answer.stages == "target"].any()
    row = mistique.trace(store, train, row=4, other=dark)
    assert row.parted_at == "input"
    inputs = row.stage("input")
    assert np.asarray(inputs.values[:, 1], float) == pytest.approx(0.2 * np.asarray(inputs.values[:, 0], float))
