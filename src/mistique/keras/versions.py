"""Which version of a store holds the present weights of a network of this process."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import keras

from mistique.keras.content import content_digest
from mistique.keras.tensors import to_numpy


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
    """Digest of all weights, names and shapes; moving averages included, seeds and metrics not."""
    digest = blake2b(digest_size=16)
    for weight in net.weights:
        digest.update(f"{weight.path} {content_digest(to_numpy(weight.value))};".encode())
    return digest.hexdigest()


def has_versions(net: keras.Model, store: Any, model: str) -> bool:
    """Whether this process captured the network before, for that store and model name."""
    return (store.uri, model) in _LAST.get(net, {})


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
