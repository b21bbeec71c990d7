"""Which version of a store holds the present weights of a network of this process."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import keras
import numpy as np

from mistique.keras.forward import to_numpy


@dataclass(frozen=True, slots=True)
class Captured:
    """A version, the digest of its weights, and the data sets that it was run over."""

    run_id: str
    epoch: int | None
    weights: str
    datasets: frozenset[str]


# Weakly: a network that the user drops is not kept for having been captured.
_LAST: weakref.WeakKeyDictionary[keras.Model, dict[tuple[str, str], Captured]] = weakref.WeakKeyDictionary()


def weights_digest(net: keras.Model) -> str:
    """SHA-256 in hex of all weights, names and shapes; moving averages included, seeds and metrics not."""
    digest = sha256()
    for weight in net.weights:
        value = np.ascontiguousarray(to_numpy(weight.value))
        digest.update(f"{weight.path} {value.shape} {value.dtype.name};".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def remember(
    net: keras.Model, store: Any, model: str, *, run_id: str, epoch: int | None, weights: str, dataset: str
) -> None:
    """Note under which version a network was captured last, for one store and model name."""
    of_net = _LAST.setdefault(net, {})
    last = of_net.get((store.uri, model))
    is_same = last is not None and (last.run_id, last.epoch, last.weights) == (run_id, epoch, weights)
    datasets = last.datasets if last is not None and is_same else frozenset()
    of_net[store.uri, model] = Captured(run_id, epoch, weights, datasets | {dataset})


def same_version(net: keras.Model, store: Any, model: str, *, weights: str, dataset: str) -> Captured | None:
    """The version that holds these very weights, if this process captured it and not over this data set.

    A second capture over one data set would take the place of the first, which may hold other layers.
    """
    last = _LAST.get(net, {}).get((store.uri, model))
    return last if last is not None and last.weights == weights and dataset not in last.datasets else None
