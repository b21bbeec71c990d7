"""What must hold whatever happens, as functions over a store that is opened afresh."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import mistique
from mistique.store import Store
from tests.capturing import put


def assert_answers(store: Store, expected: Mapping[str, np.ndarray]) -> None:
    """What was reported committed is whole and bit-equal to what was sent."""
    for key, values in expected.items():
        found = mistique.get(store, key).values
        assert (found.dtype, found.shape) == (values.dtype, values.shape), key
        assert found.tobytes() == values.tobytes(), key


def assert_none_is_half(store: Store, names: Mapping[str, set[str]]) -> None:
    """Every capture that is seen has all that its model had, and all of it can be read.

    Parameters
    ----------
    store : Store
    names : mapping of str to set of str
        The intermediates of each model.
    """
    for capture in store.catalog.captures():
        if capture.version.model in names:
            assert set(capture.intermediates) == names[capture.version.model], capture.prefix
        for name in capture.stored:
            mistique.get(store, f"{capture.prefix}/{name}")


def assert_whole(path: Path | str, expected: Mapping[str, np.ndarray], names: Mapping[str, set[str]]) -> None:
    """All of these, by a reader that opens the store; a check finds no damage; and the store takes a capture."""
    with mistique.open(path, mode="r") as store:
        assert_answers(store, expected)
        assert_none_is_half(store, names)
        found = store.check()
        assert found.is_whole, found
    with mistique.open(path) as store:
        values = np.arange(77.0)
        assert_answers(store, {put(store, values, model="lab/after"): values})
