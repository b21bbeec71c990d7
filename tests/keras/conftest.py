"""Small networks, and the values of an intermediate by the roads that the planner may take."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

from mistique.planner.execute import execute

if TYPE_CHECKING:
    from mistique.store import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What means TensorFlow itself is not asked of another backend."""
    if keras.backend.backend() != "tensorflow":
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(pytest.mark.skip(reason="TensorFlow itself is meant"))


@pytest.fixture
def tf() -> ModuleType:
    """TensorFlow, whose data sets every backend takes."""
    return pytest.importorskip("tensorflow")


@pytest.fixture(autouse=True)
def _same_weights_and_names_each_time() -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)


@pytest.fixture
def stored(store: Store) -> Callable[[str], np.ndarray]:
    """All values of the intermediate that a key names."""

    def values(key: str) -> np.ndarray:
        capture, intermediate = store.catalog.find(key)
        found, _ = execute(store, capture, intermediate)
        return found.to_numpy()

    return values


@pytest.fixture
def rows() -> np.ndarray:
    """25 rows of 4: two batches of 10 and one of 5."""
    return np.random.default_rng(0).normal(size=(25, 4)).astype("float32")


@pytest.fixture
def branched() -> keras.Model:
    """A nested model, a shared layer, an operation that is no layer, dropout and batch normalization."""
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "relu", name="one"), keras.layers.Dense(4, name="two")],
        name="inner",
    )
    given = keras.Input((4,), name="rows")
    shared = keras.layers.Dense(4, "relu", name="shared")
    left = shared(inner(given))
    right = shared(left)
    joined = keras.ops.add(left, right)
    joined = keras.layers.BatchNormalization(name="norm")(joined)
    joined = keras.layers.Dropout(0.5, name="drop")(joined)
    return keras.Model(given, keras.layers.Dense(2, name="score")(joined))
