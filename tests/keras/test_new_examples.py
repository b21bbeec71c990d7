"""A network run on a row that was never captured."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import mistique
import mistique.keras
from mistique.errors import ModelMismatchError
from mistique.store import Store


def test_a_captured_row_given_as_new_is_its_own_nearest_at_every_layer(
    store: Store, branched: keras.Model, rows: np.ndarray
) -> None:
    mistique.keras.capture(branched, rows, store=store, model="toy", dataset="test", batch_size=10, codec="raw")
    capture, _ = store.catalog.find("toy@1/test/input")
    layers = [name for name, node in capture.intermediates.items() if node.role in ("input", "stage", "prediction")]
    assert len(layers) > 5
    for name in layers:
        answer = mistique.knn(store, f"toy@1/test/{name}", example=rows[17], k=1)
        assert (answer.rows.tolist(), answer.values.tolist()) == ([17], [0.0])
    by_row, by_example = (
        mistique.topk(store, "toy@1/test/norm", n_units=2, **row) for row in ({"row": 17}, {"example": rows[17]})
    )
    assert by_row.columns == by_example.columns
    assert by_row.values.tolist() == by_example.values.tolist()


def test_a_network_of_several_inputs_takes_a_mapping(store: Store) -> None:
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate(name="both")([left, right])
    net = keras.Model([left, right], keras.layers.Dense(4, name="score")(joined))
    x = {"left": np.arange(30.0).reshape(10, 3), "right": np.arange(20.0).reshape(10, 2)}
    mistique.keras.capture(net, x, store=store, model="toy", dataset="test", codec="raw")
    example = {"left": x["left"][4], "right": x["right"][4:5]}
    answer = mistique.knn(store, "toy@1/test/both", example=example, k=1)
    assert (answer.rows.tolist(), answer.values.tolist()) == ([4], [0.0])
    with pytest.raises(ModelMismatchError, match="a mapping of the inputs"):
        mistique.knn(store, "toy@1/test/both", example=x["left"][4])


def test_a_row_of_another_shape_is_refused(store: Store, branched: keras.Model, rows: np.ndarray) -> None:
    mistique.keras.capture(branched, rows, store=store, model="toy", dataset="test")
    with pytest.raises(ModelMismatchError, match=r"one row of shape \(4,\), got shape \(5,\)"):
        mistique.knn(store, "toy@1/test/norm", example=np.zeros(5))
