"""Reading what was summarized before it was stored: where columns lie, and answers of the full shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mistique.codecs.stored_form import pool_of, stored_form
from mistique.ingest.sparse_rows import SparseColumns, from_texts
from mistique.kernels.distinct import distinct
from mistique.planner.values import Values, array_places
from mistique.schema import SPARSE_ROWS, Intermediate

# Values of some rows and columns of an intermediate as it is stored, and their error bound.
ReadStored = Callable[[Intermediate, np.ndarray, np.ndarray], tuple[Values, float]]


def stored_columns(intermediate: Intermediate, columns: np.ndarray) -> tuple[Intermediate, np.ndarray]:
    """An intermediate as it is stored, and the columns of that which hold some of its columns, sorted."""
    if intermediate.container == SPARSE_ROWS:
        return stored_form(intermediate), np.arange(2)
    pool = pool_of(intermediate)
    if pool is None:
        return intermediate, columns
    return stored_form(intermediate), distinct(pool.stored_columns(columns, intermediate.shape))


def read_whole_shape(
    read_stored: ReadStored, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    """Values in the shape that the model gave: where windows were pooled, each position has the value of its window.

    Parameters
    ----------
    read_stored : callable
    intermediate : Intermediate
    rows, columns : ndarray of int64, sorted

    Returns
    -------
    values : Values
    max_abs_error : float
        Of what was read, and what a summary, or having been recomputed, adds.
    """
    if intermediate.container == SPARSE_ROWS:
        return _read_sparse(read_stored, intermediate, rows, columns)
    pool = pool_of(intermediate)
    if pool is None:
        values, error = read_stored(intermediate, rows, columns)
        return values, error + intermediate.summary_error
    stored, needed = stored_columns(intermediate, columns)
    values, error = read_stored(stored, rows, needed)
    _, sources = array_places(stored, needed)
    shape, places = array_places(intermediate, columns)
    source_of = np.empty(len(columns), np.int64)
    source_of[places] = sources[np.searchsorted(needed, pool.stored_columns(columns, intermediate.shape))]
    cells = np.asarray(values.parts).reshape(len(rows), -1).take(source_of, axis=1)
    return Values(intermediate, columns, cells.reshape(len(rows), *shape)), error + intermediate.summary_error


def _read_sparse(
    read_stored: ReadStored, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    """Rows of a wide sparse matrix, from the texts that hold them."""
    values, error = read_stored(stored_form(intermediate), rows, np.arange(2))
    places, cells = (part.cells for part in values.parts)
    kind, what = intermediate.types[0], f"rows of {intermediate.name!r}"
    matrix = from_texts(places, cells, n_columns=intermediate.n_columns, cell=kind.cell, what=what)
    found = SparseColumns(matrix if len(columns) == intermediate.n_columns else matrix[:, columns], kind)
    return Values(intermediate, columns, found), error
