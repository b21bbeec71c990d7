"""Cells back to containers: what was read or recomputed, for the rows and columns that were asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mistique.ingest.cells import Column
from mistique.ingest.columns import MAX_SPARSE_COLUMNS, Described
from mistique.ingest.sparse_rows import SparseColumns
from mistique.planner.column_values import is_plain, numpy_column, pandas_column, restored
from mistique.schema import Intermediate


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Some rows and columns of an intermediate.

    Parameters
    ----------
    intermediate : Intermediate
    columns : ndarray of shape (n_columns,), int64
        Which of its columns, in the order asked.
    parts : list of Column, or ndarray
        Columns of a table; the cells of an array, of the shape that `array_places` gives.
    places : ndarray of shape (n_rows, n_units), int64, optional
        The cells are the largest of the positions of units, and these the positions where they are.
    """

    intermediate: Intermediate
    columns: np.ndarray
    parts: list[Column] | SparseColumns | np.ndarray
    places: np.ndarray | None = None

    @classmethod
    def of_columns(cls, intermediate: Intermediate, columns: np.ndarray, cells: np.ndarray) -> Values:
        """Of cells of an array (n_columns, n_rows), the columns in order: its parts are a view of them."""
        shape, _ = array_places(intermediate, columns)
        return cls(intermediate, columns, cells.reshape(*shape[::-1], cells.shape[1]).T)

    def by_column(self) -> np.ndarray:
        """The cells of an array as `of_columns` takes them, without a copy where they lie so."""
        assert isinstance(self.parts, np.ndarray)
        return np.ascontiguousarray(self.parts.T).reshape(len(self.columns), self.n_rows)

    @property
    def n_rows(self) -> int:
        """Rows of it."""
        if isinstance(self.parts, SparseColumns):
            return int(self.parts.matrix.shape[0])
        return len(self.parts) if isinstance(self.parts, np.ndarray) else len(self.parts[0].cells)

    def names(self) -> list[str]:
        """Names of the columns."""
        names = self.intermediate.columns
        return [str(i) if names is None else names[i] for i in self.columns.tolist()]

    def take(self, rows: np.ndarray | slice) -> Values:
        """These rows of it, by position."""
        if isinstance(self.parts, np.ndarray):
            places = None if self.places is None else self.places[rows]
            return Values(self.intermediate, self.columns, self.parts[rows], places)
        if isinstance(self.parts, SparseColumns):
            return Values(self.intermediate, self.columns, self.parts.rows(rows))
        parts = [
            Column(part.cells[rows], None if part.valid is None else part.valid[rows], part.type) for part in self.parts
        ]
        return Values(self.intermediate, self.columns, parts)

    def joined(self, *others: Values) -> Values:
        """Its rows, and below them those of others with the same columns, each copied once."""
        if not others:
            return self
        every = [self, *others]
        if isinstance(self.parts, np.ndarray):
            cells = [values.parts for values in every if isinstance(values.parts, np.ndarray)]
            return Values(self.intermediate, self.columns, np.concatenate(cells))
        columns = zip(*(values.parts for values in every if isinstance(values.parts, list)), strict=True)
        parts = []
        for column in columns:
            valid = [part.valid for part in column if part.valid is not None]
            are_valid = np.concatenate(valid) if len(valid) == len(every) else None
            parts.append(Column(np.concatenate([part.cells for part in column]), are_valid, column[0].type))
        return Values(self.intermediate, self.columns, parts)

    def reorder(self, columns: np.ndarray) -> Values:
        """The same with its columns in this order."""
        order = np.searchsorted(self.columns, columns)
        if isinstance(self.parts, np.ndarray):
            shape, places = array_places(self.intermediate, columns)
            cells = np.empty((self.n_rows, len(columns)), self.parts.dtype)
            cells[:, places] = _flat(self.parts)[:, order]
            return Values(self.intermediate, columns, cells.reshape(self.n_rows, *shape))
        if isinstance(self.parts, SparseColumns):
            return Values(self.intermediate, columns, self.parts.columns(order))
        return Values(self.intermediate, columns, [self.parts[i] for i in order])

    def to_numpy(self) -> np.ndarray:
        """An array: (n_rows, *shape) where whole units were asked of a layer, else (n_rows, n_columns).

        Columns of different types come as objects. A sparse matrix comes dense where few columns of it were asked, and
        else as it is.
        """
        intermediate = self.intermediate
        if isinstance(self.parts, SparseColumns):
            matrix = self.parts.values()
            return matrix if len(self.parts) > MAX_SPARSE_COLUMNS else matrix.toarray()  # type: ignore[no-any-return]
        if isinstance(self.parts, np.ndarray):
            cells = restored(self.parts, intermediate.types[0])
            if cells.ndim == 3:
                shape = (*intermediate.shape[:-1], cells.shape[-1]) if intermediate.shape else ()
                return cells.reshape(len(cells), *shape)
            return cells
        columns = [numpy_column(part) for part in self.parts]
        if intermediate.container in ("vector", "series", "index") and len(columns) == 1:
            return columns[0]
        if len({column.dtype for column in columns}) == 1:
            together = self._side_by_side(columns)
            return np.stack(columns, axis=1) if together is None else together.view(columns[0].dtype).T
        table = np.empty((self.n_rows, len(columns)), object)
        for i, column in enumerate(columns):
            table[:, i] = column
        return table

    def _side_by_side(self, columns: list[np.ndarray]) -> np.ndarray | None:
        """The array (n_columns, n_rows) whose rows these columns are, where they were read into one."""
        together = columns[0].base if columns else None
        if together is None or together.shape != (len(columns), self.n_rows):
            return None
        places = [column.ctypes.data for column in columns]
        return together if places == [row.ctypes.data for row in together] else None

    def to_frame(self, index: Any = None) -> Any:
        """A pandas frame with the dtypes that were captured."""
        import pandas as pd

        if isinstance(self.parts, np.ndarray):
            cells = restored(self.parts, self.intermediate.types[0])
            if cells.dtype.kind not in "biufmM":  # pandas knows no bfloat16
                cells = cells.astype(np.float32)
            return pd.DataFrame(_flat(cells), columns=self.names(), index=index)
        if isinstance(self.parts, SparseColumns):
            return pd.DataFrame.sparse.from_spmatrix(self.parts.values(), index, self.names())
        together = self._side_by_side([part.cells for part in self.parts])
        if together is not None and all(is_plain(part.type) for part in self.parts):
            return pd.DataFrame(together.T, index, self.names(), copy=True)
        columns = [pandas_column(part, index) for part in self.parts]
        frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
        frame.columns = pd.Index(self.names())
        return frame

    def native(self, index: Any = None) -> Any:
        """The container that was captured, to run a model on."""
        container = self.intermediate.container
        if isinstance(self.parts, SparseColumns):
            return self.parts.values()
        if container == "frame":
            frame = self.to_frame(index)
            kinds = set(frame.dtypes)
            # A frame that was made of a matrix keeps it: it lies row by row, where one of columns does not.
            if not self.intermediate.is_by_column and len(kinds) == 1 and kinds.pop().kind in "biuf":
                frame = type(frame)(np.ascontiguousarray(frame.to_numpy()), index=index, columns=frame.columns)
            return frame
        if container == "series":
            return self.to_frame(index).iloc[:, 0]
        if container == "polars":
            import polars

            return polars.from_pandas(self.to_frame())
        if container == "sparse":
            from scipy.sparse import csr_matrix

            return csr_matrix(self.to_numpy())
        # A model may add in another order where rows, or columns, do not lie together as they did.
        return (np.asfortranarray if self.intermediate.is_by_column else np.ascontiguousarray)(self.to_numpy())


def array_places(intermediate: Intermediate, columns: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """How some columns of a layer lie in a row.

    Returns
    -------
    shape : tuple of int
        (n_positions, n_units) where whole units are asked, the order of the framework; else (n_columns,).
    places : ndarray of shape (n_columns,), int64
        Where each column lies in a row that is laid flat.
    """
    n_positions = intermediate.positions
    units = columns[::n_positions] // n_positions
    whole = (units[:, None] * n_positions + np.arange(n_positions)).reshape(-1)
    if not np.array_equal(whole, columns):
        return (len(columns),), np.arange(len(columns))
    places = np.arange(len(columns)).reshape(n_positions, len(units))
    return places.shape, np.ascontiguousarray(places.T).reshape(-1)


def values_of(described: Described, intermediate: Intermediate, columns: np.ndarray) -> Values:
    """What a recomputation gave, for the columns asked."""
    if isinstance(described.parts, SparseColumns):
        return Values(intermediate, columns, described.parts.columns(columns))
    return chosen_columns(described.parts, intermediate, columns)


def chosen_columns(parts: list[Column] | np.ndarray, intermediate: Intermediate, columns: np.ndarray) -> Values:
    """Some columns of what all columns of an intermediate are."""
    if not isinstance(parts, np.ndarray):
        return Values(intermediate, columns, [parts[i] for i in columns.tolist()])
    n_rows, n_positions, n_units = len(parts), intermediate.positions, intermediate.n_units
    cells = parts.reshape(n_rows, n_positions, n_units)
    if len(columns) == intermediate.n_columns:
        return Values(intermediate, columns, cells)
    shape, places = array_places(intermediate, columns)
    chosen = np.empty((n_rows, len(columns)), cells.dtype)
    chosen[:, places] = cells[:, columns % n_positions, columns // n_positions]
    return Values(intermediate, columns, chosen.reshape(n_rows, *shape))


def _flat(cells: np.ndarray) -> np.ndarray:
    """Cells as (n_rows, n_columns), units outermost."""
    n_rows, width = len(cells), int(np.prod(cells.shape[1:]))
    return cells.transpose(0, 2, 1).reshape(n_rows, width) if cells.ndim == 3 else cells


def pandas_index(values: Values) -> Any:
    """Row labels as a pandas index."""
    import pandas as pd

    assert isinstance(values.parts, list)
    names = [name or None for name in values.names()]
    columns = [pandas_column(part, None) for part in values.parts]
    if len(columns) == 1:
        return pd.Index(columns[0], name=names[0])
    return pd.MultiIndex.from_arrays(columns, names=names)
