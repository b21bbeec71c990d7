"""The answers to questions, by plain loops over plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise


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


def slice_means(errors: Sequence[float], columns: Mapping[str, Sequence[object]]) -> dict[frozenset, tuple[int, float]]:
    """Rows and mean error of every group of one and two columns, by their (column, group) pairs."""
    members: dict[frozenset, list[float]] = {}
    for row, error in enumerate(errors):
        pairs = [(name, str(values[row])) for name, values in columns.items()]
        for size in (1, 2):
            for chosen in combinations(pairs, size):
                members.setdefault(frozenset(chosen), []).append(error)
    return {condition: (len(found), mean(found)) for condition, found in members.items()}


def holm(p: Sequence[float], n_looks: int) -> list[float]:
    """Corrected p values, by the definition: the i-th smallest times the looks that are left, never falling."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (n_looks - rank)))
        corrected[i] = largest
    return corrected
