"""A training that is interrupted and resumed, and a network that is another one in the next fit."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.keras import MistiqueCallback

if TYPE_CHECKING:
    from mistique.store import Store

X, Y = np.random.default_rng(0).normal(size=(2, 20, 4)).astype("float32")


def net() -> keras.Model:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(4)])
    made.compile("adam", "mse")
    return made


def fit(model: keras.Model, store: Store, *others: keras.callbacks.Callback, **options: int) -> list[str]:
    watch = MistiqueCallback(store, X, Y, model="m", on_error="raise")
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[watch, *others], **options)
    return watch.captured


def test_a_fit_with_an_initial_epoch_goes_on_with_its_run(store: Store) -> None:
    model = net()
    assert fit(model, store, epochs=2) == ["m@1.1", "m@1.2"]
    assert fit(model, store, epochs=4, initial_epoch=2) == ["m@1.3", "m@1.4"]
    # From its beginning, it is another run.
    assert fit(model, store, epochs=1) == ["m@2.1"]


@pytest.mark.supported("interrupted, resumed", "the same run")
def test_what_was_interrupted_and_restored_goes_on_with_its_run_in_another_process(
    store: Store, tmp_path: Path
) -> None:
    def interrupt(epoch: int, logs: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    def backup() -> keras.callbacks.Callback:
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False)

    stop = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    assert fit(net(), store, backup(), stop, epochs=5) == ["m@1.1", "m@1.2"]
    # A network made again, and a store opened again, know nothing of the first ones.
    assert fit(net(), mistique.open(store.uri), backup(), epochs=4) == ["m@1.3", "m@1.4"]
    plain = net()
    plain.fit(X, Y, epochs=4, verbose=0)
    found = mistique.get(store, "m@1.4/valid/prediction").to_numpy()
    np.testing.assert_allclose(found, plain.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_loaded_network_goes_on_with_its_run(store: Store, tmp_path: Path) -> None:
    model = net()
    fit(model, store, epochs=2)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert fit(loaded, store, epochs=3, initial_epoch=2) == ["m@1.3"]


def test_other_weights_and_a_run_that_went_further_are_not_gone_on_with(store: Store) -> None:
    model = net()
    fit(model, store, epochs=1)
    first = model.get_weights()
    fit(model, store, epochs=2, initial_epoch=1)
    model.set_weights(first)
    assert fit(model, store, epochs=2, initial_epoch=1) == ["m@2.2"]
    model.set_weights([weight + 1 for weight in first])
    assert fit(model, store, epochs=3, initial_epoch=2) == ["m@3.3"]


@pytest.mark.supported("layers added, compiled again", "captured as they are now")
@pytest.mark.parametrize("batch_size", [10, 64])
def test_layers_added_between_fits_are_captured_in_the_next(store: Store, batch_size: int) -> None:
    model = net()
    watch = MistiqueCallback(store, X, Y, model="m", on_error="raise", batch_size=batch_size)
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[watch])
    model.pop()
    model.add(keras.layers.Dense(5, name="new"))
    model.add(keras.layers.Dense(4, name="last"))
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[watch])
    names = [list(store.catalog.find(f"m@{run}.1/valid/h")[0].intermediates) for run in (1, 2)]
    assert names == [["input", "h", "prediction", "target"], ["input", "h", "new", "prediction", "target"]]
    found = mistique.get(store, "m@2.1/valid/new").to_numpy()
    hidden = keras.Model(model.inputs, model.get_layer("new").output)
    np.testing.assert_allclose(found, hidden.predict(X, verbose=0), atol=0.2)
    # Compiled again, it is traced again.
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[watch])
    assert watch.captured == ["m@3.1"]


@pytest.mark.supported("two epochs compared", "`mistique.diff`: layers whose weights and values changed")
def test_what_changed_between_two_epochs_is_told_layer_by_layer(store: Store, rows: np.ndarray) -> None:
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="frozen")], name="base")
    base.trainable = False
    net = keras.Sequential(
        [keras.Input((4,)), base, keras.layers.Dense(3, name="h"), keras.layers.Dense(1, name="out")]
    )
    net.compile("adam", "mse")
    slower = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch)
    watch = MistiqueCallback(store, rows, model="m", on_error="raise")
    net.fit(rows, rows.sum(axis=1), epochs=2, verbose=0, callbacks=[slower, watch])
    found = mistique.diff(store, "m@1.1", other="m@1.2")
    assert found.states == {"base/frozen": "same", "h": "changed", "out": "changed"}
    assert found.stages["base/frozen"] == "same"
    assert found.params == {"learning_rate": ("0.1", "0.05")}
    assert found.environment == {}
