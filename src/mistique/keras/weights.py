"""A network's weights, named as its layers' outputs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from mistique.keras.forward import children_of, name_within
from mistique.keras.tensors import to_numpy
from mistique.schema import join_path

# The data set that they are filed under: one row, the network.
DATASET = "weights"


def named_weights(net: keras.Model) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, class of the layer and values of each weight: ``inner/dense_1/kernel``; moving averages included.

    Examples
    --------
    >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="hidden")])
    >>> [(name, values.shape) for name, _, values in named_weights(net)]
    [('hidden/kernel', (2, 3)), ('hidden/bias', (3,))]
    """
    yield from _of(net, (), set())


def _of(layer: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, str, np.ndarray]]:
    for child in children_of(layer):
        if isinstance(child, keras.Layer) and id(child) not in seen:
            seen.add(id(child))
            yield from _of(child, (*path, name_within(layer, child)), seen)
    taken: dict[str, int] = {}
    for weight in layer.weights:
        if id(weight) in seen:
            continue
        seen.add(id(weight))
        # A closed layer has layers of its own: attention's weights are `query/kernel`, `key/kernel`.
        _, _, within = f"/{weight.path}".rpartition(f"/{layer.name}/")
        name = join_path(*path, *(within or weight.name).split("/"))
        taken[name] = taken.get(name, -1) + 1
        yield f"{name}:{taken[name]}" if taken[name] else name, type(layer).__name__, to_numpy(weight.value)
