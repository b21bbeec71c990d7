"""Containers to cells: what a framework hands over, described and cut into column chunks.

pandas is recognised, never imported: a user without it has no frame to hand over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mistique.errors import CaptureError, NotEncodableError
from mistique.ingest.cells import Column
from mistique.ingest.polars_frames import as_pandas, is_polars
from mistique.ingest.sparse_rows import MAX_COLUMNS, SparseColumns
from mistique.ingest.texts import CONVERT, SeenTexts, arrow_memory, check_text, text_column
from mistique.schema import SPARSE_ROWS, ColumnType

# Wider sparse output is stored row by row: a chunk for each column would be nearly empty.
MAX_SPARSE_COLUMNS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A container taken apart.

    Parameters
    ----------
    container : {"array", "matrix", "vector", "frame", "series", "sparse"}
    n_rows : int
    shape : tuple of int
        Of one row.
    columns : tuple of str, optional
    parts : list of Column, SparseColumns, or ndarray of shape (n_rows, ...)
        Columns of a table; the cells of an array whole.
    types : tuple of ColumnType
    raw_nbytes : int
    """

    container: str
    n_rows: int
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None
    parts: list[Column] | SparseColumns | np.ndarray
    types: tuple[ColumnType, ...]
    raw_nbytes: int

    @property
    def is_by_column(self) -> bool:
        """A matrix of numbers whose columns, not its rows, lie together in memory."""
        if isinstance(self.parts, np.ndarray) or len(self.parts) < 2 or self.n_rows < 2:
            return False
        cells = [part.cells for part in self.parts[:2]]
        step = cells[1].ctypes.data - cells[0].ctypes.data
        return cells[0].strides == (cells[0].itemsize,) and step == cells[0].nbytes


def describe(value: Any, *, what: str, texts: SeenTexts | None = None) -> Described:
    """Take a table apart: a frame or series of pandas or polars, a 1-D or 2-D array, sparse, a list of numbers.

    Parameters
    ----------
    value : object
    what : str
        Named in errors: ``stage 'scale'``.
    texts : SeenTexts, optional
        Columns that need not be taken apart again.

    Raises
    ------
    NotEncodableError
        A container or a column that no cell type can hold; the column and the type are named.
    CaptureError
        There are no rows.
    """
    if is_polars(value):
        # Its series are columns: as target or prediction they are those of pandas.
        described = describe(as_pandas(value), what=what)
        described = replace(described, container="polars") if described.container == "frame" else described
    elif hasattr(value, "tocsr"):
        described = _describe_sparse(value, what)
    elif hasattr(value, "iloc") and hasattr(value, "columns"):
        described = _describe_frame(value, what, texts)
    elif hasattr(value, "iloc"):
        part = column_of(value, what=f"{what}, column {value.name!r}")
        name = None if value.name is None else (str(value.name),)
        described = Described("series", len(value), (1,), name, [part], (part.type,), _nbytes([part]))
    elif isinstance(value, (np.ndarray, list, tuple)):
        described = _describe_matrix(_as_array(value, what), what)
    else:
        found = f"{type(value).__module__}.{type(value).__qualname__}"
        raise NotEncodableError(what=what, found=found, hint="Give a NumPy array, a pandas frame or a sparse matrix")
    if described.n_rows == 0:
        raise CaptureError(f"{what}: expected at least one row, got an empty {described.container}")
    if 0 in described.shape:
        raise CaptureError(f"{what}: expected at least one column, got a {described.container} without any")
    return described


def _as_array(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        hint = "Give an array with a row for each example, all of one length"
        raise NotEncodableError(what=what, found="rows of different lengths", hint=hint) from error


def describe_array(value: np.ndarray, *, what: str) -> Described:
    """Take the output of a layer, or a part of its rows, as it is: any shape, one numeric type."""
    cells, column_type = _numeric_cells(np.asarray(value), what)
    return Described("array", len(cells), cells.shape[1:], None, cells, (column_type,), cells.nbytes)


def _describe_sparse(value: Any, what: str) -> Described:
    n_rows, n_columns = value.shape
    if n_columns > MAX_COLUMNS:
        hint = f"Sparse output is stored up to {MAX_COLUMNS} columns; reduce it, or leave the step out"
        raise NotEncodableError(what=what, found=f"a sparse matrix of {n_columns} columns", hint=hint)
    if n_columns > MAX_SPARSE_COLUMNS:
        by_row = value.tocsr()
        cells, column_type = _numeric_cells(by_row.data, what)
        matrix = type(by_row)((cells, by_row.indices, by_row.indptr), shape=by_row.shape)
        nbytes = cells.nbytes + by_row.indices.nbytes + by_row.indptr.nbytes
        columns = SparseColumns(matrix, column_type)
        return Described(SPARSE_ROWS, n_rows, (n_columns,), None, columns, (column_type,), nbytes)
    by_column = value.tocsc()
    parts = [column_of(by_column[:, [i]].toarray()[:, 0], what=f"{what}, column {i}") for i in range(n_columns)]
    return Described("sparse", n_rows, (n_columns,), None, parts, (parts[0].type,), _nbytes(parts))


def _describe_frame(value: Any, what: str, texts: SeenTexts | None = None) -> Described:
    columns = tuple(map(str, value.columns))
    dtypes = value.dtypes.tolist()
    first = dtypes[0] if dtypes else None
    if isinstance(first, np.dtype) and first.kind in "biuf" and dtypes.count(first) == len(dtypes):
        # All columns at once: pandas takes 100 microseconds to hand over one.
        parts = _columns_of(value.to_numpy(), what)
    else:
        parts = [column_of(column, what=f"{what}, column {name!r}", texts=texts) for name, column in value.items()]
    types = tuple(part.type for part in parts)
    return Described("frame", len(value), (len(parts),), columns, parts, types, _nbytes(parts))


def _columns_of(table: np.ndarray, what: str) -> list[Column]:
    """The columns of a matrix of numbers, as views of it: what is kept is copied later, in `Described.chunks`."""
    cells, column_type = _numeric_cells(table, what)
    return [Column(cells[:, i], None, column_type) for i in range(cells.shape[1])]


def _describe_matrix(value: np.ndarray, what: str) -> Described:
    if value.ndim == 0:
        raise NotEncodableError(what=what, found="one value", hint="Give an array with a row for each example")
    if value.ndim > 2:
        return describe_array(value, what=what)
    table = value if value.ndim == 2 else value[:, None]
    if table.dtype.kind in "biuf":
        parts = _columns_of(table, what)
    else:
        parts = [column_of(table[:, i], what=f"{what}, column {i}") for i in range(table.shape[1])]
    types = tuple(part.type for part in parts)
    if len(set(types)) == 1:
        types = types[:1]
    container = "matrix" if value.ndim == 2 else "vector"
    return Described(container, len(value), (table.shape[1],), None, parts, types, _nbytes(parts))


def _nbytes(parts: list[Column]) -> int:
    """Bytes of the values as they are held in memory; text by its UTF-8 length."""
    total = 0
    for part in parts:
        if part.type.cell == "<U0":
            total += part.text_nbytes
        else:
            total += part.cells.nbytes
        total += 0 if part.valid is None else part.valid.nbytes
    return total


def column_of(values: Any, *, what: str, texts: SeenTexts | None = None) -> Column:
    """The cells of one column: a 1-D array or a pandas series; of text that was seen, the same ones again.

    Raises
    ------
    NotEncodableError
        Naming the column and the type that no cell can hold.
    """
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        array = np.asarray(values)
        if dtype.kind == "O":
            return text_column(array, str(dtype), what)
        if dtype.kind == "U":
            cells = array.astype(object)
            return Column(cells, None, ColumnType(dtype.str, "<U0"), check_text(cells, what))
        cells, column_type = _numeric_cells(array, what)
        return Column(np.ascontiguousarray(cells), None, column_type)
    if hasattr(values, "cat"):
        codes = np.ascontiguousarray(values.cat.codes.to_numpy())
        categories = values.cat.categories
        listed = tuple(item.item() if isinstance(item, np.generic) else item for item in categories)
        if not all(isinstance(item, (str, int, float, bool)) for item in listed):
            found = f"categories of {categories.dtype}"
            raise NotEncodableError(what=what, found=found, hint="Categories can be text, numbers or booleans")
        kind = ColumnType(f"category[{categories.dtype}]", codes.dtype.str, False, listed, bool(values.cat.ordered))
        return Column(codes, None, kind)
    if getattr(dtype, "tz", None) is not None:
        utc = values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return Column(utc, None, ColumnType(str(dtype), utc.dtype.str))
    if dtype.name in ("str", "string"):
        memory = None if texts is None else arrow_memory(values)
        seen = None if texts is None or memory is None else texts.get(memory)
        if seen is not None:
            return seen
        is_null = values.isna().to_numpy()
        # Filled by pandas: to look at each cell took ten times the time.
        cells = (values.fillna("") if is_null.any() else values).to_numpy(object)
        kind = ColumnType(dtype.name, "<U0", bool(is_null.any()))
        column = Column(cells, ~is_null if kind.is_nullable else None, kind, check_text(cells, what))
        if texts is not None and memory is not None:
            texts.keep(memory, values, column)
        return column
    numpy_dtype = getattr(dtype, "numpy_dtype", None)
    if isinstance(numpy_dtype, np.dtype) and numpy_dtype.kind in "iufb":  # Int64, Float32, boolean
        is_null = values.isna().to_numpy()
        cells, column_type = _numeric_cells(values.fillna(numpy_dtype.type(0)).to_numpy(numpy_dtype), what)
        kind = ColumnType(dtype.name, column_type.cell, True)
        return Column(np.ascontiguousarray(cells), ~is_null, kind)
    raise NotEncodableError(what=what, found=f"dtype {dtype}", hint=CONVERT)


def _numeric_cells(values: np.ndarray, what: str) -> tuple[np.ndarray, ColumnType]:
    """Cells of a numeric array, and their type. 16-bit and smaller floats become their bits, booleans bytes."""
    dtype = values.dtype
    if dtype.kind == "b":
        return values.view(np.uint8), ColumnType("bool", "|u1")
    if dtype.kind == "m":
        return values.view(np.int64), ColumnType(dtype.name, "<i8")
    if dtype.kind == "M" and np.datetime_data(dtype)[0] != "generic":
        return values, ColumnType(dtype.name, dtype.str)
    if dtype.kind in "iu" or dtype.newbyteorder("=") in (np.float32, np.float64):
        little = values.astype(dtype.newbyteorder("<"), copy=False)
        return little, ColumnType(dtype.name, little.dtype.str)
    if dtype.newbyteorder("=") == np.float16:
        values, dtype = values.astype("<f2", copy=False), np.dtype(np.float16)
    if dtype == np.float16 or dtype.name.startswith(("bfloat16", "float8")):
        bits = values.view(np.uint16 if dtype.itemsize == 2 else np.uint8)
        return bits, ColumnType(dtype.name, bits.dtype.str)
    raise NotEncodableError(what=what, found=f"dtype {dtype}", hint=CONVERT)


def describe_labels(index: Any) -> Described | None:
    """Take row labels apart: a pandas index or an array. None for rows that are merely numbered."""
    if type(index).__name__ == "RangeIndex" and (index.start, index.step, index.name) == (0, 1, None):
        return None
    if hasattr(index, "to_frame"):
        frame = index.to_frame(index=False)
        described = _describe_frame(frame, "row labels")
        columns = tuple("" if name is None else str(name) for name in index.names)
    else:
        described = _describe_matrix(np.asarray(index), "row labels")
        columns = ("",) * described.shape[0]
    return replace(described, container="index", columns=columns)
