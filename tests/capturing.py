"""Captures without a framework: what the tests of the core rooms put into a store, and how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mistique.ingest.capture import Capture
from mistique.schema import References
from mistique.store import Store


@contextmanager
def capturing(store: Store, *, model: str = "lab/model", dataset: str = "train", **options: Any) -> Iterator[Capture]:
    """A capture of a model that belongs to no framework, so that it can be read but never run again.

    By the codec raw, unless another is given: what these tests put in must come out.
    """
    facts = {"codec": "raw", **options}
    with store.capture(model=model, dataset=dataset, framework="none", **facts) as capture:
        yield capture


def put(
    store: Store, value: Any, *, name: str = "stage", labels: Any = None, dataset: str = "train", **options: Any
) -> str:
    """Capture one table; its key."""
    with capturing(store, dataset=dataset, **options) as capture:
        capture.set_labels(labels)
        capture.add(name, value)
    return f"{capture.committed}/{dataset}/{name}"


def put_layer(
    store: Store,
    values: np.ndarray,
    *,
    name: str = "layer",
    batch_rows: int = 0,
    dataset: str = "train",
    **options: Any,
) -> str:
    """Capture the output of one layer in batches, as a network gives it; its key."""
    with capturing(store, dataset=dataset, batch_rows=batch_rows, **options) as capture:
        step = batch_rows or len(values)
        for start in range(0, len(values), step):
            capture.append(name, values[start : start + step])
    return f"{capture.committed}/{dataset}/{name}"


def references_of(store: Store, key: str) -> References:
    """Where the chunks of a stored intermediate lie."""
    capture, node = store.catalog.find(key)
    return store.catalog.references(capture)[node.name]
