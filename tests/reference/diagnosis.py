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


def differing_columns(first: Sequence[float], second: Sequence[float]) -> list[int]:
    """Columns by the size of their difference, the largest first; what one row lacks before, what both lack after."""
    with_size = []
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        n_missing = math.isnan(a) + math.isnan(b)
        size = math.inf if n_missing == 1 else -1.0 if n_missing == 2 else 0.0 if a == b else abs(b - a)
        with_size.append((n_missing != 1, -size, i))
    return [i for _, _, i in sorted(with_size)]


def group_means(rows: Sequence[Sequence[float]], groups: Sequence[object]) -> dict[object, list[float]]:
    """The mean of every column over the rows of each group, NaN left out; NaN where nothing is left."""
    means = {}
    for group in dict.fromkeys(groups):
        members = [row for row, of in zip(rows, groups, strict=True) if of == group]
        kept = [[value for value in column if not math.isnan(value)] for column in zip(*members, strict=True)]
        means[group] = [mean(column) if column else math.nan for column in kept]
    return means


def distance(first: Sequence[float], second: Sequence[float], kind: str) -> float:
    """Between two rows, term by term."""
    gaps = [abs(a - b) for a, b in zip(first, second, strict=True)]
    if kind == "cosine":
        sizes = math.hypot(*first) * math.hypot(*second)
        return 1.0 - math.fsum(a * b for a, b in zip(first, second, strict=True)) / sizes if sizes else 1.0
    return {"euclidean": math.hypot(*gaps), "manhattan": math.fsum(gaps), "chebyshev": max(gaps)}[kind]


def nearest_rows(rows: Sequence[Sequence[float]], query: int, k: int, kind: str) -> list[int]:
    """The k rows nearest to one of them, which is left out; ties to the earlier row."""
    others = [i for i in range(len(rows)) if i != query]
    return sorted(others, key=lambda i: (distance(rows[i], rows[query], kind), i))[:k]
