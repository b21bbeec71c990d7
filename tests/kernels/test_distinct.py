"""Sorted numbers, each once."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels.distinct import distinct

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "numbers",
    [
        RNG.integers(0, 2**63, 1000).astype(np.uint64),
        RNG.integers(-5, 5, (20, 30)),
        np.arange(7),
        np.empty(0, np.int64),
        np.array([3, 3], np.uint8),
    ],
)
def test_each_number_comes_once_in_order(numbers: np.ndarray) -> None:
    found = distinct(numbers)
    assert found.dtype == numbers.dtype
    assert found.tolist() == sorted(set(numbers.reshape(-1).tolist()))
