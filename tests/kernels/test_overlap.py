"""The kernel that counts where upsampled maps reach a threshold, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels.overlap import count_overlap
from mistique.queries.masks import places_of
from tests.reference import diagnosis as oracle


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 4), (7, 9)])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (20, 13)])
@pytest.mark.parametrize("threshold", [-np.inf, 0.3, 1.5, np.inf])
def test_counts_equal_those_of_the_oracle(shape: tuple[int, int], size: tuple[int, int], threshold: float) -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(3, *shape)).astype(np.float32)
    labels = random.integers(0, 4, (3, *size)).astype(np.uint16)
    counts = np.zeros(4, np.int64)
    count_overlap(maps, threshold, labels, *places_of(shape[0], size[0]), *places_of(shape[1], size[1]), counts)
    expected = np.zeros(4, int)
    for cells, of in zip(maps.astype(np.float64), labels, strict=True):
        large = np.array(oracle.upsampled(cells.tolist(), *size))
        expected += np.bincount(of[large >= threshold], minlength=4)
    assert counts.tolist() == expected.tolist()
