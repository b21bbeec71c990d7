"""Base and difference: a column as the numbers of its values, and the values.

Numbers go by first occurrence, so a column and its scaled or encoded image have the same numbers: those are the base,
stored once whatever follows from them, and the distinct values are the difference (docs/adr/0015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mistique.kernels.occurrence import number_values

# Below, a column of numbers and a table of values are no shorter than the column.
_MIN_ROWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """A column taken apart.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows,), uint8, uint16 or uint32
        Of each value, by first occurrence.
    values : ndarray of shape (n_values,)
        The distinct values, bit for bit, in the order of their numbers.
    """

    numbers: np.ndarray
    values: np.ndarray

    @property
    def is_shorter(self) -> bool:
        """Worth it even when nobody else has the same numbers.

        A repeated cell costs about two bytes of a number: whole numbers and text take about as many anyway, floats with
        a fraction seven (docs/adr/0015).
        """
        if self.values.dtype.kind not in "fO" and self.values.itemsize < 4:
            return False
        share = 0.5 if _are_whole(self.values) else 0.9
        return len(self.values) <= share * len(self.numbers)


def numbered(cells: np.ndarray) -> Numbered | None:
    """A column taken apart; None: it is of another kind, or too short.

    Examples
    --------
    >>> taken = numbered(np.repeat([3.5, np.nan, -1.0], 30))
    >>> taken.values, taken.numbers[[0, 30, 60]], taken.numbers.dtype
    (array([ 3.5,  nan, -1. ]), array([0, 1, 2], dtype=uint8), dtype('uint8'))
    """
    n_rows = len(cells)
    if n_rows < _MIN_ROWS:
        return None
    if cells.dtype.kind == "O":
        texts = cells.tolist()
        number_of = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        values = np.empty(len(number_of), object)
        values[:] = list(number_of)
        return Numbered(np.fromiter(map(number_of.__getitem__, texts), _width(len(values)), n_rows), values)
    if cells.dtype.kind not in "iufmM" or cells.itemsize > 8:
        return None
    bits = cells.view(f"u{cells.itemsize}")
    numbers, distinct = np.empty(n_rows, np.uint32), np.empty(n_rows, np.uint64)
    n_slots_log2 = (2 * n_rows - 1).bit_length()
    table = np.full(1 << n_slots_log2, -1)
    n_values = number_values(bits.astype(np.uint64, copy=False), table, np.uint64(64 - n_slots_log2), numbers, distinct)
    values = distinct[:n_values].astype(bits.dtype).view(cells.dtype)
    return Numbered(numbers.astype(_width(n_values), copy=False), values)


def _width(n_values: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if n_values <= 2**8 else np.uint16 if n_values <= 2**16 else np.uint32


def _are_whole(values: np.ndarray) -> bool:
    """Anything but floats with a fraction, by the first ones."""
    some = values[:64]
    return values.dtype.kind != "f" or not (np.isfinite(some) & (some != np.rint(some))).any()
