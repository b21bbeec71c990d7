"""MinHash against integers of Python, and its law: agreement is the Jaccard similarity."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels.minhash import minhash
from tests.reference import minhash as reference


def _signatures(items: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    found = np.empty((len(items), len(seeds)), np.uint32)
    minhash(items, seeds, found)
    return found


def test_signatures_are_those_of_the_reference() -> None:
    rng = np.random.default_rng(1)
    items = rng.integers(0, 2**32, (5, 40), dtype=np.uint32)
    items[0, :3] = 0, 1, 2**32 - 1
    seeds = rng.integers(0, 2**32, 16, dtype=np.uint32)
    expected = [reference.minhash(row.tolist(), seeds.tolist()) for row in items]
    assert _signatures(items, seeds).tolist() == expected


def test_order_of_items_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    items, seeds = rng.integers(0, 2**32, (1, 100), dtype=np.uint32), np.arange(64, dtype=np.uint32)
    np.testing.assert_array_equal(_signatures(items, seeds), _signatures(rng.permuted(items, axis=1), seeds))


@pytest.mark.parametrize("shared", [0, 30, 70, 100])
def test_signatures_agree_as_often_as_the_sets_are_alike(shared: int) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.permutation(1000)[:200].astype(np.uint32)
    one, other = drawn[:100], np.concatenate([drawn[:shared], drawn[100 : 200 - shared]])
    seeds = rng.integers(0, 2**32, 2048, dtype=np.uint32)
    agreeing = (np.equal(*_signatures(np.stack([one, other]), seeds))).mean()
    # Four standard errors of 2,048 hashes.
    assert abs(agreeing - reference.jaccard(one.tolist(), other.tolist())) <= 0.045
