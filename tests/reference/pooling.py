"""Pooling one window after the other, as it is written in a textbook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np


def pool(
    values: np.ndarray,
    size: Sequence[int],
    strides: Sequence[int],
    *,
    same: bool,
    of_window: Callable[[np.ndarray], float],
) -> np.ndarray:
    """Windows over all axes but the first and the last; only cells that exist count."""
    n_out, before = [], []
    for n, k, s in zip(values.shape[1:-1], size, strides, strict=True):
        out = -(-n // s) if same else (n - k) // s + 1
        n_out.append(out)
        before.append(max((out - 1) * s + k - n, 0) // 2 if same else 0)
    result = np.empty((len(values), *n_out, values.shape[-1]), values.dtype)
    for place in product(*map(range, n_out)):
        window = tuple(
            slice(max(i * s - b, 0), max(i * s - b + k, 0))
            for i, k, s, b in zip(place, size, strides, before, strict=True)
        )
        for row in range(len(values)):
            for unit in range(values.shape[-1]):
                result[(row, *place, unit)] = of_window(values[(row, *window, unit)])
    return result
