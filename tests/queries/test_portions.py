"""An intermediate in portions: each by its road."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.errors import NoPlanError
from mistique.queries.portions import Portions
from mistique.schema import ROW_BLOCK_ROWS
from mistique.store import Store
from tests.capturing import put_layer

VALUES = np.random.default_rng(0).random((4 * ROW_BLOCK_ROWS, 6), np.float32)
BOUNDS = [(low, low + ROW_BLOCK_ROWS) for low in range(0, len(VALUES), ROW_BLOCK_ROWS)]


def test_portions_like_the_last_are_what_was_stored(store: Store) -> None:
    portions = Portions(store, *store.catalog.find(put_layer(store, VALUES)))
    taken = [portions.take(low, high) for low, high in BOUNDS]
    assert np.array_equal(np.concatenate(taken)[:, 0], VALUES)
    assert "in portions, 4 by read" in portions.plan().reason
    assert len({plan.seconds for plan in portions._plans}) == len(BOUNDS)


def test_a_portion_that_is_not_stored_is_no_read_though_the_one_before_was(store: Store) -> None:
    key = put_layer(store, VALUES, batch_rows=100)
    store.drop(key)
    capture, node = store.catalog.find(key)
    (low, high), (next_low, next_high), *_ = BOUNDS
    with store.taking(capture, node, np.arange(low, high)) as taking:
        taking.append(node.name, VALUES[low:high], role="stage", codec="raw")
    portions = Portions(store, *store.catalog.find(key))
    assert np.array_equal(portions.take(low, high)[:, 0], VALUES[low:high])
    with pytest.raises(NoPlanError, match="only 1 of its row blocks are stored"):
        portions.take(next_low, next_high)
