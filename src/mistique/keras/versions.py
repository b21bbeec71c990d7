"""Which version of a store holds the present weights of a network."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import keras

from mistique.keras.content import content_digest
from mistique.keras.tensors import to_numpy

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, slots=True)
class Captured:
    """A version, the digest of its weights, and the data sets that it was run over."""

    run_id: str
    epoch: int | None
    weights: str
    datasets: frozenset[str]


# Weakly: a network that the user drops is not kept for having been captured.
_LAST: weakref.WeakKeyDictionary[keras.Model, dict[tuple[str, str], Captured]] = weakref.WeakKeyDictionary()


# A version's environment says under it which weights it ran with.
WEIGHTS = "keras_weights"


def weights_digest(net: keras.Model) -> str:
    """Digest of all weights and their shapes; moving averages included, seeds and metrics not.

    Not of their names, which are others when a network is made or loaded again.
    """
    digest = blake2b(digest_size=16)
    for weight in net.weights:
        digest.update(f"{content_digest(to_numpy(weight.value))};".encode())
    return digest.hexdigest()


def run_to_continue(store: Store, model: str, *, epoch: int, weights: str) -> str | None:
    """The run, of whatever process, that was captured after that epoch with these weights and went no further.

    One that went further is left as it is: its epochs are not taken the place of.
    """
    last: dict[str, int] = {}
    found = None
    for captured in store.catalog.captures():
        version = captured.version
        if version.model == model and version.epoch is not None:
            last[version.run_id] = max(version.epoch, last.get(version.run_id, 0))
            if version.epoch == epoch and version.environment.get(WEIGHTS) == weights:
                found = version.run_id
    return found if found is not None and last[found] == epoch else None


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
