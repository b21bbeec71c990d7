"""The positions of a unit as one number, and the names of columns that lie at positions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mistique.errors import QueryError
from mistique.schema import Intermediate

REDUCTIONS = ("none", "mean", "max")


def check_reduce(reduce: Any, intermediate: Intermediate, columns: np.ndarray | None) -> None:
    """Refuse what is no reduction, and to reduce what are not whole units.

    Raises
    ------
    QueryError
    """
    if reduce not in REDUCTIONS:
        listed = ", ".join(f'"{name}"' for name in REDUCTIONS)
        raise QueryError(f"reduce: expected one of {listed}, got {reduce!r}")
    if reduce != "none" and columns is not None and intermediate.is_table:
        return
    if reduce != "none" and columns is not None and not _are_units(intermediate, columns):
        raise QueryError(f"reduce={reduce!r} is of whole units: choose them with unit=, not columns=")


def reduced(numbers: np.ndarray, reduce: str) -> np.ndarray:
    """Numbers of shape (n_rows, n_units), or (n_rows, n_columns) with "none"; means are summed in float64.

    Columns of "none" come in the order of the values, a unit's positions not together: see `in_columns`.
    """
    if numbers.ndim < 3 or reduce == "none":
        return numbers.reshape(len(numbers), -1)
    if reduce == "max":
        return np.asarray(numbers.max(axis=1))
    return np.asarray(numbers.mean(axis=1, dtype=np.float64))


def names_of(intermediate: Intermediate, columns: np.ndarray | None, reduce: str) -> list[str]:
    """A name for each column or unit: its own, ``12``, or ``12 at 3,4`` of a feature map.

    Parameters
    ----------
    intermediate : Intermediate
    columns : ndarray of int64, optional
        None: all.
    reduce : str
        With "none", a name for each column.
    """
    if intermediate.columns is not None or intermediate.positions == 1:
        names = intermediate.column_names()
        return list(names) if columns is None else [names[column] for column in columns.tolist()]
    if reduce != "none":
        chosen = np.arange(intermediate.n_columns) if columns is None else columns
        return [str(unit) for unit in (chosen[:: intermediate.positions] // intermediate.positions).tolist()]
    if columns is None:
        return list(_names_at_positions(intermediate.shape))
    units, places = np.divmod(columns, intermediate.positions)
    where = _positions(intermediate.shape)
    return [f"{unit} at {where[place]}" for unit, place in zip(units.tolist(), places.tolist(), strict=True)]


@lru_cache(maxsize=16)
def _names_at_positions(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Of all columns of a layer: to spell thousands of them takes longer than to read a few rows of them."""
    return tuple(f"{unit} at {place}" for unit in range(shape[-1]) for place in _positions(shape))


def _positions(shape: tuple[int, ...]) -> list[str]:
    return [",".join(map(str, place)) for place in np.ndindex(*shape[:-1])]


def _are_units(intermediate: Intermediate, columns: np.ndarray) -> bool:
    n_positions = intermediate.positions
    units = columns[::n_positions] // n_positions
    return np.array_equal((units[:, None] * n_positions + np.arange(n_positions)).reshape(-1), columns)
