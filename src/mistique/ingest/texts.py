"""Columns of text: their cells, and those that stages pass on as they are, which are taken apart once a capture.

To take 58,722 texts out of a pandas column, look at each and digest them takes 10 ms; a pipeline of a dozen stages does
that a dozen times over for the same memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.errors import NotEncodableError
from mistique.ingest.cells import Column
from mistique.schema import ColumnType

CONVERT = "Convert it to numbers, text, a category or a datetime before this step, or leave the step out"

# What they hold: beyond that, columns are taken apart again.
_MAX_NBYTES = 256 * 1024 * 1024
# Of a text beside its bytes, as Python has it.
_TEXT_NBYTES = 64
Memory = tuple[str, tuple[tuple[int, ...], ...]]


def arrow_memory(values: Any) -> Memory | None:
    """Type of a pandas series of texts, and where they lie in Arrow's memory, which nobody can change.

    None: they lie elsewhere.

    Parameters
    ----------
    values : Series
    """
    if getattr(values.dtype, "storage", None) != "pyarrow":
        return None
    chunks = values.array.__arrow_array__().chunks
    places = tuple(
        (chunk.offset, len(chunk), *(0 if buffer is None else buffer.address for buffer in chunk.buffers()))
        for chunk in chunks
    )
    return repr(values.dtype), places


class SeenTexts:
    """Columns of text that were taken apart, by the memory that they lie in."""

    def __init__(self) -> None:
        self._seen: dict[Memory, tuple[Any, Column]] = {}
        self._nbytes = 0

    def get(self, memory: Memory) -> Column | None:
        """The column that lies there, if it was seen."""
        found = self._seen.get(memory)
        return None if found is None else found[1]

    def keep(self, memory: Memory, values: Any, column: Column) -> None:
        """Remember a column, if there is room. Its series is held as well: its memory must not become another's."""
        n_bytes = column.text_nbytes + _TEXT_NBYTES * len(column.cells)
        if self._nbytes + n_bytes <= _MAX_NBYTES:
            self._seen[memory] = values.array, column
            self._nbytes += n_bytes


def text_column(values: np.ndarray, dtype: str, what: str) -> Column:
    """Text with nulls: None, NaN and pandas' NA are null, the empty text is not."""
    listed = values.tolist()
    if set(map(type, listed)) == {str}:
        return Column(values, None, ColumnType(dtype, "<U0"), check_text(values, what))
    is_text = np.fromiter((isinstance(value, str) for value in listed), bool, len(listed))
    if not is_text.all():
        for value in values[~is_text]:
            is_nan = isinstance(value, float) and value != value
            if not (value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")):
                found = f"values of {type(value).__module__}.{type(value).__qualname__}"
                raise NotEncodableError(what=what, found=found, hint=CONVERT)
    cells = np.where(is_text, values, "")
    kind = ColumnType(dtype, "<U0", not is_text.all())
    return Column(cells, is_text if kind.is_nullable else None, kind, check_text(cells, what))


def check_text(cells: np.ndarray, what: str) -> int:
    """Refuse text that would not come back: UTF-8 has no lone surrogates, and TileDB keeps "" as one NUL.

    Returns
    -------
    int
        Bytes of the texts in UTF-8.
    """
    try:
        is_lost = "\0" in cells.tolist()
        n_bytes = len("".join(cells.tolist()).encode())
    except UnicodeEncodeError as error:
        raise NotEncodableError(what=what, found="text that is not Unicode (a lone surrogate)", hint=CONVERT) from error
    if is_lost:
        raise NotEncodableError(what=what, found="the text of one NUL character", hint=CONVERT)
    return n_bytes
