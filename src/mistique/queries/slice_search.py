"""Every slice of the rows by one and two columns, and how its error compares, from sums over the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mistique.queries.progress import tracked
from mistique.queries.significance import adjusted, welch_p

Condition = tuple[tuple[str, str], ...]
_PAIRED = 30
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Slice:
    """The columns (by number) and their groups that its rows are in."""

    columns: tuple[int, ...]
    groups: tuple[int, ...]


class SliceSearch:
    """Slices that are large enough, and what is known of each, in the same order.

    Parameters
    ----------
    errors : ndarray of shape (n_rows,), float64
        Finite.
    columns : mapping of str to (ndarray of shape (n_rows,), list of str)
        The group of each row, -1 for none, and the names of the groups.
    min_rows : int
    correction : str
        See `adjusted`.
    """

    def __init__(
        self,
        errors: np.ndarray,
        columns: Mapping[str, tuple[np.ndarray, list[str]]],
        min_rows: int,
        correction: str,
    ) -> None:
        self._names = list(columns)
        self._codes = [codes for codes, _ in columns.values()]
        self._groups = [names for _, names in columns.values()]
        # Of the distances from the mean: squares of errors in dollars would lose their last digits.
        centered = errors - errors.mean()
        self._weights = (None, centered, centered**2, errors)
        self._min_rows = min_rows
        self._all = self._sums(np.zeros(len(errors), np.int64), 1)
        self._singles = [
            self._sums(codes, len(groups)) for codes, groups in zip(self._codes, self._groups, strict=True)
        ]
        self.slices: list[Slice] = []
        self.n_looks = 0
        parts: list[np.ndarray] = []
        ps: list[np.ndarray] = []
        for column, sums in enumerate(self._singles):
            parts.append(self._keep((column,), sums, [self._all - sums], ps))
        paired = self._paired(parts)
        pairs = list(combinations(range(len(self._names)), 2))
        for first, second in tracked(pairs, "looking at pairs of columns", total=len(pairs)):
            shape = len(self._groups[first]), len(self._groups[second])
            if first not in paired or second not in paired:
                self.n_looks += shape[0] * shape[1]
                continue
            sums = self._sums(_crossed(self._codes[first], self._codes[second], shape[1]), shape[0] * shape[1])
            in_first = np.repeat(self._singles[first], shape[1], axis=1)
            in_second = np.tile(self._singles[second], shape[0])
            parts.append(
                self._keep((first, second), sums, [self._all - sums, in_first - sums, in_second - sums], ps, shape[1])
            )
        self.n_looks += len(self.slices)
        sums = np.concatenate(parts, axis=1)
        others = self._all - sums
        self.n = sums[0]
        mean, self.variance = _moments(sums)
        other_mean, other_variance = _moments(others)
        with np.errstate(divide="ignore", invalid="ignore"):
            effect = np.sqrt(2) * (mean - other_mean) / np.sqrt(self.variance + other_variance)
        self.effect = np.where(mean == other_mean, 0.0, effect)
        self.mean, self.other_mean = sums[3] / sums[0], others[3] / others[0]
        self.p = np.concatenate(ps)
        self.corrected = adjusted(self.p, method=correction, n_looks=self.n_looks)

    def condition(self, one: Slice) -> Condition:
        """Its columns and groups by name."""
        return tuple((self._names[c], self._groups[c][group]) for c, group in zip(one.columns, one.groups, strict=True))

    def is_in(self, one: Slice) -> np.ndarray:
        """Which rows are in it."""
        masks = [self._codes[c] == group for c, group in zip(one.columns, one.groups, strict=True)]
        return np.asarray(np.logical_and.reduce(masks))

    def notes(self, *, n_without_error: int) -> tuple[str, ...]:
        """What was left out."""
        left_out = len(self._names) - _PAIRED
        pairs = f"pairs were looked at of the {_PAIRED} columns (of {len(self._names)}) whose slices differ most"
        without = f"{n_without_error:,} rows have no finite error and are in no slice"
        return (*([pairs] if left_out > 0 else []), *([without] if n_without_error else []))

    def _sums(self, codes: np.ndarray, n_groups: int) -> np.ndarray:
        """Rows, centered errors, their squares, and errors of each group: shape (4, n_groups)."""
        inside = codes >= 0
        weights = [weight if weight is None else weight[inside] for weight in self._weights]
        return np.stack([np.bincount(codes[inside], weight, minlength=n_groups).astype(float) for weight in weights])

    def _keep(
        self,
        columns: tuple[int, ...],
        sums: np.ndarray,
        others: Sequence[np.ndarray],
        ps: list[np.ndarray],
        n_second: int = 0,
    ) -> np.ndarray:
        """Note the slices that are large enough, and the largest p against what each is held against."""
        is_large = (sums[0] >= self._min_rows) & (self._all[0] - sums[0] >= self._min_rows)
        # A slice that is all of one it lies in says nothing new.
        for other in others[1:]:
            is_large &= other[0] > 0
        kept = np.flatnonzero(is_large)
        groups = [divmod(i, n_second) if n_second else (i,) for i in kept.tolist()]
        self.slices.extend(Slice(columns, group) for group in groups)
        mean, variance = _moments(sums[:, kept])
        p = np.zeros(len(kept))
        for other in others:
            other_mean, other_variance = _moments(other[:, kept])
            p = np.maximum(
                p,
                welch_p(
                    mean,
                    variance,
                    sums[0, kept],
                    other_mean=other_mean,
                    other_variance=other_variance,
                    other_n=other[0, kept],
                ),
            )
        ps.append(p)
        return sums[:, kept]

    def _paired(self, singles: Sequence[np.ndarray]) -> set[int]:
        """The columns to make pairs of: those whose slices' means differ most from the mean of all rows."""
        spread = [float((sums[1] ** 2 / np.maximum(sums[0], 1)).sum()) for sums in singles]
        return set(np.argsort(spread)[::-1][:_PAIRED].tolist())


def _crossed(first: np.ndarray, second: np.ndarray, n_second: int) -> np.ndarray:
    return np.where((first >= 0) & (second >= 0), first * n_second + second, -1)


def _moments(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means, and variances with n - 1."""
    n, total, squares, _ = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        spread = squares - total * mean
        # What rounding leaves of equal errors is no spread: an effect size would be that of rounding.
        variance = np.where(spread > _ROUNDING * squares, spread, 0.0) / (n - 1)
    return mean, variance
