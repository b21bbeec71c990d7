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


def kolmogorov_smirnov(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest distance between the shares of both that are not above any value."""
    return max(
        abs(sum(v <= at for v in first) / len(first) - sum(v <= at for v in second) / len(second))
        for at in [*first, *second]
    )


def psi(first: Sequence[float], second: Sequence[float], bins: int = 10) -> float:
    """Population stability over quantiles of the first, with a bin for what is below them and one for what is above."""
    ordered = sorted(first)
    ends = sorted({ordered[int(i / bins * (len(ordered) - 1))] for i in range(bins + 1)})
    places: dict[object, list[int]] = {}
    for side, sample in enumerate((first, second)):
        for v in sample:
            inside = max(1, next((i for i, end in enumerate(ends) if v <= end), 0))
            place = "below" if v < ends[0] else "above" if v > ends[-1] else inside
            places.setdefault(place, [0, 0])[side] += 1
    shares = [[max(n, 0.5) / len(side) for n, side in zip(c, (first, second), strict=True)] for c in places.values()]
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


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
