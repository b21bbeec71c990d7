"""A network's weights, named as its layers' outputs are."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import keras
import numpy as np

from mistique.keras.content import content_digest
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
    for _, name, detail, values in _of(net, (), set()):
        yield name, detail, values


def states_of(net: keras.Model) -> dict[str, str]:
    """A digest of the weights of each layer that has some, by the path of the layer: what `mistique.diff` compares.

    Examples
    --------
    >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="hidden"), keras.layers.Flatten()])
    >>> list(states_of(net))
    ['hidden']
    """
    digests: dict[str, Any] = {}
    for path, _, _, values in _of(net, (), set()):
        digests.setdefault(path, blake2b(digest_size=16)).update(f"{content_digest(values)};".encode())
    return {path: digest.hexdigest() for path, digest in digests.items()}


def _of(layer: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Path of the layer, and of each weight its name, the class of its layer and its values."""
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
        name = f"{name}:{taken[name]}" if taken[name] else name
        yield join_path(*path), name, type(layer).__name__, to_numpy(weight.value)
