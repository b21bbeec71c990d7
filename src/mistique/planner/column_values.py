"""One column of cells as the numbers, texts or categories that were captured: for NumPy and for pandas."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.codecs.floats import float_dtype
from mistique.ingest.cells import Column
from mistique.schema import ColumnType


def restored(cells: np.ndarray, kind: ColumnType) -> np.ndarray:
    """Cells as the numbers they stand for."""
    if kind.dtype == "bool":
        return cells.view(np.bool_)
    if kind.dtype.startswith("timedelta64"):
        return cells.view(kind.dtype)
    if kind.cell in ("<u2", "|u1") and kind.dtype not in ("uint16", "uint8"):
        if kind.dtype.startswith("float8"):
            import ml_dtypes

            return cells.view(np.dtype(getattr(ml_dtypes, kind.dtype)))
        return cells.view(float_dtype(kind.dtype))
    return cells


def is_plain(kind: ColumnType) -> bool:
    """A column of this type is its cells, in NumPy and in pandas."""
    return kind.cell != "<U0" and kind.dtype == np.dtype(kind.cell).name


def numpy_column(column: Column) -> np.ndarray:
    """One column as an array. Nulls are None in text, NaN in numbers, None in booleans."""
    kind = column.type
    if kind.categories is not None:
        values: np.ndarray = np.array([*kind.categories, None], object)[column.cells]
        is_number = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in kind.categories)
        return values.astype(np.float64) if is_number else values
    if kind.cell == "<U0":
        if kind.dtype.startswith("<U"):
            return column.cells.astype(kind.dtype)
        texts = column.cells.astype(object)
        if column.valid is not None:
            texts[~column.valid] = None
        return texts
    if not kind.is_nullable:
        return restored(column.cells, kind)
    values = restored(column.cells, ColumnType(kind.dtype.lower().replace("boolean", "bool"), kind.cell))
    if column.valid is None or column.valid.all():
        return values
    out = values.astype(object if values.dtype == np.bool_ else np.float64)
    out[~column.valid] = None if values.dtype == np.bool_ else np.nan
    return out


def pandas_column(column: Column, index: Any) -> Any:
    """One column as a pandas series of the dtype that was captured."""
    import pandas as pd

    kind, cells = column.type, column.cells
    if kind.categories is not None:
        dtype = kind.dtype.partition("[")[2].rstrip("]")
        categories = pd.Index(list(kind.categories), dtype=dtype)
        return pd.Series(pd.Categorical.from_codes(cells, categories, ordered=kind.is_ordered), index=index)
    if kind.dtype in ("str", "string"):
        return pd.Series(pd.array(numpy_column(column), dtype=kind.dtype), index=index)
    if kind.dtype.startswith("datetime64") and "," in kind.dtype:
        return pd.Series(cells, index=index).dt.tz_localize("UTC").astype(kind.dtype)
    if kind.is_nullable and kind.cell != "<U0":
        numpy_kind = ColumnType(kind.dtype.lower().replace("boolean", "bool"), kind.cell)
        series = pd.Series(restored(cells, numpy_kind), index=index).astype(kind.dtype)
        return series if column.valid is None else series.where(column.valid)
    values = numpy_column(column)
    if values.dtype.kind == "V" or values.dtype.name.startswith(("bfloat16", "float8")):
        values = values.astype(np.float32)
    if values.dtype == object:
        return pd.Series(values, index=index, dtype=object)
    return pd.Series(values, index=index)
