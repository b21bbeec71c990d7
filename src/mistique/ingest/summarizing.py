"""Rows made smaller before they are cut into blocks: in the cells of the column, whatever float they hold."""

from __future__ import annotations

import numpy as np

from mistique.codecs import Pool
from mistique.codecs.floats import float_dtype
from mistique.schema import ColumnType


def summarized(pool: Pool, cells: np.ndarray, column_type: ColumnType) -> tuple[np.ndarray, float]:
    """Pooled rows, and the largest distance of a finite value from what stands for it.

    Parameters
    ----------
    pool : Pool
    cells : ndarray of shape (n_rows, height, width, n_units)
        16-bit floats as their bits.
    column_type : ColumnType

    Returns
    -------
    cells : ndarray of shape (n_rows, *pool.stored_shape(...))
        A new array, of the type of what was given.
    error : float
    """
    pooled, error = pool.summarize(cells.view(float_dtype(column_type.dtype)))
    return pooled.view(cells.dtype), error
