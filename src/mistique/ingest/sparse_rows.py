"""Wide sparse matrices, row by row: two columns of text, of which one holds places and the other values.

A table is cut into a chunk for each column and block of rows; of 50,000 columns, nearly all of them zero, that is
far too many. So a row is two texts. In the first each character is the distance from the place before, plus one, so
that UTF-8 spends one byte on a distance below 127; in the second each character is a byte of the values, plus one.
Texts are compressed, referenced, checked and read by rows as those of any table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import numpy as np

from mistique.errors import ChunkCorruptError
from mistique.ingest.cells import Column
from mistique.schema import ColumnType

# Characters end at 0x10FFFF and leave out the surrogates, 0xD800 to 0xDFFF.
_FIRST_SURROGATE, _N_SURROGATES = 0xD800, 0x800
MAX_COLUMNS = 0x10FFFF - _N_SURROGATES
TEXT = ColumnType("str", "<U0")


@dataclass(frozen=True, slots=True, eq=False)
class SparseColumns(Sequence[Column]):
    """The columns of a sparse matrix, each made dense when it is asked for.

    Parameters
    ----------
    matrix : csr_matrix or csr_array of shape (n_rows, n_columns)
        Of cells: booleans as bytes.
    type : ColumnType
        Of all columns.
    """

    matrix: Any
    type: ColumnType

    def __len__(self) -> int:
        return int(self.matrix.shape[1])

    @overload
    def __getitem__(self, position: int) -> Column: ...
    @overload
    def __getitem__(self, position: slice) -> list[Column]: ...
    def __getitem__(self, position: int | slice) -> Column | list[Column]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        return Column(self.matrix[:, [position]].toarray()[:, 0], None, self.type)

    def __iter__(self) -> Iterator[Column]:
        return (self[i] for i in range(len(self)))

    def columns(self, positions: np.ndarray) -> SparseColumns:
        """Some of them, in this order."""
        return SparseColumns(self.matrix[:, positions], self.type)

    def rows(self, positions: np.ndarray | slice) -> SparseColumns:
        """Some rows of all of them."""
        return SparseColumns(self.matrix[positions], self.type)

    def values(self) -> Any:
        """The matrix, of the values that its cells stand for."""
        is_flag = self.type.dtype == "bool"
        return self.matrix.astype(bool) if is_flag else self.matrix


def as_texts(matrix: Any) -> list[Column]:
    """The two columns of text of a matrix in CSR."""
    matrix = matrix if matrix.has_canonical_format else matrix.copy()
    matrix.sum_duplicates()
    places, values = np.empty(matrix.shape[0], object), np.empty(matrix.shape[0], object)
    bounds = matrix.indptr.tolist()
    for row, (first, last) in enumerate(pairwise(bounds)):
        steps = np.diff(matrix.indices[first:last].astype(np.int64), prepend=0) + 1
        steps += np.where(steps >= _FIRST_SURROGATE, _N_SURROGATES, 0)
        places[row] = steps.astype("<u4").tobytes().decode("utf-32-le")
        letters = np.ascontiguousarray(matrix.data[first:last]).view(np.uint8).astype("<u4") + 1
        values[row] = letters.tobytes().decode("utf-32-le")
    return [Column(places, None, TEXT), Column(values, None, TEXT)]


def from_texts(places: np.ndarray, values: np.ndarray, *, n_columns: int, cell: str, what: str) -> Any:
    """The inverse of `as_texts`: a CSR matrix.

    Raises
    ------
    ChunkCorruptError
        The texts are of no matrix of that width.
    """
    from scipy.sparse import csr_matrix

    lengths = np.array([len(text) for text in places.tolist()], np.int64)
    try:
        steps = np.frombuffer("".join(places.tolist()).encode("utf-32-le"), "<u4").astype(np.int64)
        letters = np.frombuffer("".join(values.tolist()).encode("utf-32-le"), "<u4")
        data = (letters - 1).astype(np.uint8).view(cell)
    except (UnicodeEncodeError, ValueError) as error:
        raise ChunkCorruptError(where=what, expected="rows of a sparse matrix", got=str(error)) from error
    steps -= np.where(steps > _FIRST_SURROGATE, _N_SURROGATES, 0) + 1
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    along = np.concatenate([[0], np.cumsum(steps)])
    indices = along[1:] - np.repeat(along[bounds[:-1]], lengths)
    if len(data) != len(steps) or (len(indices) and not (indices.min() >= 0 and indices.max() < n_columns)):
        raise ChunkCorruptError(where=what, expected=f"places below {n_columns}", got=f"{len(data)} values")
    return csr_matrix((data, indices, bounds), shape=(len(lengths), n_columns))
