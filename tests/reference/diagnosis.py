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


def upsampled(cells: Sequence[Sequence[float]], height: int, width: int) -> list[list[float]]:
    """A map at another size, bilinearly, the centres of pixels aligned and the edges carried on."""

    def place(pixel: int, n_pixels: int, n_cells: int) -> tuple[int, int, float]:
        at = min(max((pixel + 0.5) * n_cells / n_pixels - 0.5, 0.0), n_cells - 1.0)
        before = int(at)
        return before, min(before + 1, n_cells - 1), at - before

    found = []
    for y in range(height):
        top, bottom, down = place(y, height, len(cells))
        row = []
        for x in range(width):
            left, right, along = place(x, width, len(cells[0]))
            upper = cells[top][left] * (1 - along) + cells[top][right] * along
            lower = cells[bottom][left] * (1 - along) + cells[bottom][right] * along
            row.append(upper * (1 - down) + lower * down)
        found.append(row)
    return found


def concept_score(
    maps: Sequence[Sequence[Sequence[float]]],
    concepts: Sequence[Sequence[Sequence[int]]],
    concept: int,
    threshold: float,
) -> float:
    """Intersection over union of where a unit reaches its threshold and where a concept is, over all images."""
    both = either = 0
    for cells, labels in zip(maps, concepts, strict=True):
        large = upsampled(cells, len(labels), len(labels[0]))
        for values, row in zip(large, labels, strict=True):
            for value, label in zip(values, row, strict=True):
                both += value >= threshold and label == concept
                either += value >= threshold or label == concept
    return both / either if either else 0.0
