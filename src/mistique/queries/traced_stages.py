"""A stage of a trace: the values of one row on one or two sides, and the columns in which the sides part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class TracedStage:
    """One stage of a trace.

    Parameters
    ----------
    name, role : str
        Of the intermediate.
    columns : tuple of str
        Those of either side.
    values : ndarray of shape (n_columns, n_sides), object
        None where a side has no such column, or no such stage.
    differences : ndarray of shape (n_columns,), float64
        Second less first; NaN where that is no number.
    parts : ndarray of shape (n_columns,), bool
        Where the two differ by more than their error bounds and the tolerance.
    """

    name: str
    role: str
    columns: tuple[str, ...]
    values: np.ndarray
    differences: np.ndarray
    parts: np.ndarray

    @property
    def relative_distance(self) -> float:
        """Euclidean distance of the numbers of both sides over the larger of their lengths, 0 to 2."""
        if self.values.shape[1] < 2:
            return 0.0
        known = np.isfinite(self.differences)
        first, second = (self.values[known, side].astype(np.float64) for side in (0, 1))
        length = max(float(np.linalg.norm(first)), float(np.linalg.norm(second)))
        return float(np.linalg.norm(second - first)) / length if length else 0.0


def compared_stage(name: str, role: str, cells: list[dict[str, Any]], bounds: float, tolerance: float) -> TracedStage:
    """A stage of one or two sides, each given by its values by column; numbers within `bounds` do not part."""
    if len(cells) == 2 and len(cells[0]) == len(cells[1]) == 1:  # a prediction, whatever it is called
        cells[1] = dict(zip(cells[0], cells[1].values(), strict=True))
    columns = tuple(dict.fromkeys([column for side in cells for column in side]))
    values = np.empty((len(columns), len(cells)), object)
    for side, found in enumerate(cells):
        values[:, side] = [found.get(column) for column in columns]
    differences = np.full(len(columns), np.nan)
    parts = np.zeros(len(columns), bool)
    if len(cells) == 2:
        numbers = [np.array([_number(value) for value in values[:, side]]) for side in (0, 1)]
        with np.errstate(invalid="ignore"):
            differences = numbers[1] - numbers[0]
            larger = np.maximum(np.abs(numbers[0]), np.abs(numbers[1]))
            parts = np.abs(differences) > bounds + tolerance * np.where(np.isfinite(larger), larger, 0.0)
        # What is no number, or not finite, is held to be equal or not.
        for i in np.flatnonzero(~np.isfinite(differences)).tolist():
            parts[i] = not _is_same(values[i, 0], values[i, 1])
    return TracedStage(name, role, columns, values, differences, parts)


def _number(value: Any) -> float:
    is_number = isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating))
    return float(value) if is_number else np.nan


def _is_same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    return bool(first == second) or (first != first and second != second)


def most_telling(stage: TracedStage, n_columns: int) -> np.ndarray:
    """The first columns that part, those by most of their size first."""
    parting = np.flatnonzero(stage.parts)
    sizes = np.array([max(abs(_number(v)) for v in stage.values[i]) or 1.0 for i in parting.tolist()])
    by = np.abs(stage.differences[parting]) / np.where(np.isfinite(sizes), sizes, 1.0) if len(parting) else parting
    # What is no number comes first: nobody knows by how much it parts.
    return np.asarray(parting[np.argsort(-np.where(np.isnan(by), np.inf, by), kind="stable")[:n_columns]])
