"""Floats of every width: cells as numbers, numbers as cells, and what rounding to a type adds to an error."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.kernels.look_up import look_up
from mistique.schema import ColumnType

# Numbers between zero and the largest value of a float lie this far apart at most, relative to their size; half of it
# is what rounding to that type adds to an error. Below the normal numbers they lie `TINIEST` apart.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
TINIEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}


def float_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a float's name, ml_dtypes' bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def as_numbers(cells: np.ndarray, column_type: ColumnType) -> np.ndarray:
    """Cells as float32 or float64: 16-bit floats are kept as their bits, and every one of them is a float32."""
    if column_type.cell != "<u2":
        return cells
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return cells.view(float_dtype(column_type.dtype)).astype(np.float32)


def as_cells(numbers: np.ndarray, column_type: ColumnType) -> np.ndarray:
    """Numbers, rounded to the type of a column, as its cells."""
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = numbers.astype(float_dtype(column_type.dtype))
    return rounded.view(np.uint16) if column_type.cell == "<u2" else rounded


def room_for(shape: tuple[int, ...], dtype: Any, out: np.ndarray | None) -> np.ndarray:
    """Where cells go: to `out`, if they fit, as a kernel does not look."""
    return out if out is not None and out.shape == shape and out.dtype == dtype else np.empty(shape, dtype)


def look_up_cells(
    codes: np.ndarray, tables: np.ndarray, column_type: ColumnType, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Cells of codes (n_columns, n_rows) by tables of up to 256 numbers in float64, each of as many columns."""
    tables = np.atleast_2d(tables)
    if tables.shape[1] < 256:
        tables = np.pad(tables, ((0, 0), (0, 256 - tables.shape[1])))
    cells = as_cells(tables, column_type)
    bits = np.dtype(f"u{cells.itemsize}")
    found = room_for(codes.shape, cells.dtype, out)
    look_up(codes, cells.view(bits), found.view(bits))
    return found
