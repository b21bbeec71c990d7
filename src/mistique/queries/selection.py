"""Rows and columns as people name them, to positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import IntermediateNotFoundError, QueryError
from mistique.planner.execute import execute, row_labels
from mistique.schema import INPUT, PREDICTION, TARGET, Intermediate, Key
from mistique.storage.captures import Capture
from mistique.storage.catalog import Catalog

if TYPE_CHECKING:
    from mistique.store import Store

_MAX_GROUPS = 12


def catalog_of(store: Store) -> Catalog:
    """What a store knows of what it holds; of a path or anything else that is no store, a `QueryError`."""
    if not hasattr(store, "catalog"):
        raise QueryError(f"expected a store, as mistique.open(uri) gives it, got {store!r}")
    return store.catalog


def find(store: Store, key: str | Key) -> tuple[Capture, Intermediate]:
    """The intermediate that a key names, and its capture.

    Raises
    ------
    QueryError, InvalidKeyError, IntermediateNotFoundError
    """
    return catalog_of(store).find(key)


def find_each(store: Store, keys: Iterable[str | Key]) -> list[tuple[Capture, Intermediate]]:
    """As `find`, of several at one moment: ``latest`` is the same version for all."""
    return catalog_of(store).find_each(keys)


def select_rows(store: Store, capture: Capture, n_rows: int, rows: Any) -> np.ndarray | None:
    """Positions of rows: labels, one or several, a slice of positions, or a mask. None: all.

    Raises
    ------
    QueryError
        A label that no row has, naming the nearest; a slice beyond the end; a mask of another number of rows.
    """
    if rows is None:
        return None
    if isinstance(rows, slice):
        # Python would cut it silently: fewer rows than were asked for are no answer.
        if beyond := [end for end in (rows.start, rows.stop) if end is not None and not -n_rows <= end <= n_rows]:
            raise QueryError(f"rows: expected positions up to {n_rows}, as there are {n_rows} rows, got {beyond[-1]}")
        return np.arange(*rows.indices(n_rows))
    if _is_mask(rows):
        if hasattr(rows, "index"):  # a series of pandas says itself which rows it means
            return select_rows(store, capture, n_rows, list(rows.index[rows.to_numpy(bool)]))
        if len(rows) != n_rows:
            raise QueryError(f"rows: expected a mask with a value for each of {n_rows} rows, got {len(rows)}")
        return np.flatnonzero(rows)
    is_one = isinstance(rows, (str, bytes, tuple)) or not hasattr(rows, "__len__")
    wanted = [rows] if is_one else list(rows)
    index = row_labels(store, capture)
    if index is None:
        for label in wanted:
            if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or not 0 <= label < n_rows:
                raise QueryError(
                    f"rows: expected numbers from 0 to {n_rows - 1} (the rows have no labels), got {label!r}"
                )
        return np.array(wanted, np.int64)
    positions = []
    for label in wanted:
        try:
            found = index.get_loc(label)
        except (KeyError, TypeError, ValueError):
            near = get_close_matches(str(label), [str(i) for i in index[:100_000]], n=3, cutoff=0.3)
            known = f"nearest: {', '.join(near)}" if near else f"they begin with {', '.join(map(repr, index[:3]))}"
            raise QueryError(f"no row is labelled {label!r}; {known}") from None
        positions.append(np.arange(len(index))[found].reshape(-1))
    return np.concatenate(positions) if positions else np.empty(0, np.int64)


def _is_mask(rows: Any) -> bool:
    return getattr(rows, "ndim", 0) == 1 and rows.dtype.kind == "b"


def one_row(store: Store, capture: Capture, n_rows: int, row: Any, *, is_label: bool = True) -> int:
    """The position of one row, by its label or, with ``is_label=False``, by position, from the end where negative.

    Raises
    ------
    QueryError
        There is none, or several rows have that label.
    """
    if not is_label:
        is_number = isinstance(row, (int, np.integer)) and not isinstance(row, bool)
        if not is_number or not -n_rows <= row < n_rows:
            raise QueryError(f"position: expected a number from {-n_rows} to {n_rows - 1}, got {row!r}")
        return int(row) % n_rows
    found = select_rows(store, capture, n_rows, [row])
    assert found is not None
    if len(found) > 1:
        listed = ", ".join(map(str, found[:6].tolist()))
        raise QueryError(f"{len(found)} rows are labelled {row!r}, at positions {listed}: give a position instead")
    return int(found[0])


def select_columns(intermediate: Intermediate, columns: Any, unit: Any) -> np.ndarray | None:
    """Positions of columns, by name, by number, or all of the columns of units. None: all.

    Raises
    ------
    QueryError
        An unknown column or unit, naming the nearest, none, or both at once.
    """
    if columns is not None and unit is not None:
        raise QueryError("give columns= or unit=, not both: a unit is all of its columns")
    if unit is not None:
        units = np.atleast_1d(np.asarray(unit))
        if not units.size:
            raise QueryError("unit: expected at least one")
        if units.dtype.kind not in "iu" or (units < 0).any() or (units >= intermediate.n_units).any():
            raise QueryError(
                f"unit: expected numbers from 0 to {intermediate.n_units - 1} for {intermediate.name}, got {unit!r}"
            )
        positions = np.arange(intermediate.positions)
        return (units[:, None].astype(np.int64) * intermediate.positions + positions).reshape(-1)
    if columns is None:
        return None
    wanted = [columns] if isinstance(columns, (str, int, np.integer)) else list(columns)
    if not wanted:
        raise QueryError(f"columns: expected at least one of {intermediate.name}")
    names = intermediate.columns
    return np.array([_column(intermediate, names, column) for column in wanted], np.int64)


def _column(intermediate: Intermediate, names: Sequence[str] | None, column: Any) -> int:
    if names is not None and str(column) in names:
        return names.index(str(column))
    is_number = isinstance(column, (int, np.integer)) and not isinstance(column, bool)
    if is_number and 0 <= column < intermediate.n_columns:
        return int(column)
    if names is None:
        raise QueryError(
            f"columns of {intermediate.name} have no names: expected numbers from 0 to "
            f"{intermediate.n_columns - 1}, got {column!r}"
        )
    near = get_close_matches(str(column), names, n=3, cutoff=0.4) or list(names[:6])
    raise QueryError(f"{intermediate.name} has no column {column!r}; nearest: {', '.join(near)}")


def labels_of(store: Store, capture: Capture, n_rows: int, rows: np.ndarray | None) -> np.ndarray:
    """Labels of rows by position, as an array."""
    index = row_labels(store, capture)
    positions = np.arange(n_rows) if rows is None else rows
    if index is None:
        return positions
    labels: np.ndarray = index[positions].to_numpy()
    return labels


def matched_rows(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows that both have, a repeated label matched in order."""
    if len(left) == len(right) and (left == right).all():
        return np.arange(len(left)), np.arange(len(right))
    places: dict[Any, list[int]] = {}
    for position in range(len(right) - 1, -1, -1):
        places.setdefault(right[position], []).append(position)
    pairs = [(i, places[label].pop()) for i, label in enumerate(left) if places.get(label)]
    matched = np.array(pairs, np.int64).reshape(-1, 2)
    return matched[:, 0], matched[:, 1]


def group_of_rows(store: Store, capture: Capture, n_rows: int, by: Any) -> tuple[str, np.ndarray]:
    """The name and the group of each row, as text or numbers with few values.

    Parameters
    ----------
    by : str or array of shape (n_rows,)
        A column of the input, an intermediate of one column (``target``), or a group for each row.

    Notes
    -----
    Numbers with more than 12 values are cut at their quartiles.
    """
    if not isinstance(by, str):
        groups = np.asarray(by)
        if groups.shape != (n_rows,):
            raise QueryError(f"by: expected a name, or a group for each of {n_rows} rows, got shape {groups.shape}")
        return "group", _few(groups)
    values = None
    node = capture.intermediates.get(INPUT)
    if node is not None and node.columns is not None and by in node.columns:
        values, _ = execute(store, capture, node, columns=np.array([node.columns.index(by)]))
    else:
        try:
            named = capture.resolve(by)
        except IntermediateNotFoundError:
            named = None
        if named is not None and named.n_columns == 1:
            values, _ = execute(store, capture, named)
    if values is None:
        known = [] if node is None or node.columns is None else list(node.columns)
        known += [name for name in (TARGET, PREDICTION) if name in capture.intermediates]
        near = get_close_matches(by, known, n=3, cutoff=0.4) or known[:6]
        raise QueryError(
            f"by: {by!r} is neither a column of the input nor an intermediate of one column; "
            + (f"nearest: {', '.join(near)}" if near else "there is none here: give a group for each row")
        )
    return by, _few(values.to_numpy().reshape(n_rows))


def _few(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iufb" or len(np.unique(values)) <= _MAX_GROUPS:
        if values.dtype.kind == "f" and np.isnan(values).any():
            return np.where(np.isnan(values), "null", values.astype(str))
        return np.array(["null" if value is None else value for value in values]) if values.dtype == object else values
    edges = np.unique(np.nanquantile(values, [0, 0.25, 0.5, 0.75, 1]))
    names = np.array([f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)], object)
    which = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(names) - 1)
    return np.where(np.isnan(values.astype(float)), "null", names[which]).astype(str)


def in_order(groups: np.ndarray) -> list[Any]:
    """The groups there are, numbers by size, intervals by their lower end."""

    def size(group: Any) -> tuple[int, float, str]:
        text = str(group)
        try:
            return 0, float(text.split(" to ")[0]), text
        except ValueError:
            return 1, 0.0, text

    return sorted(np.unique(groups).tolist(), key=size)
