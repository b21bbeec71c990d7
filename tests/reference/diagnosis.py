"""The answers to questions, by plain loops over plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def top_rows(scores: Sequence[float], k: int, *, largest: bool = True) -> list[int]:
    """The k rows with the largest (or smallest) scores; ties to the earlier row, NaN after everything."""
    numbers = [i for i, score in enumerate(scores) if not math.isnan(score)]
    missing = [i for i, score in enumerate(scores) if math.isnan(score)]
    ordered = sorted(numbers, key=lambda i: (-scores[i] if largest else scores[i], i))
    return [*ordered, *missing][:k]


def counts_between(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """How many finite values lie in each bin; the last bin holds its upper edge too."""
    finite = [value for value in values if math.isfinite(value)]
    counts = []
    for i, (low, high) in enumerate(pairwise(edges)):
        is_last = i == len(edges) - 2
        counts.append(sum(low <= value < high or (is_last and value == high) for value in finite))
    return counts


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return math.fsum(values) / len(values)
