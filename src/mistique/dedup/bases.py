"""Columns by whose numbers others can be told: what was imputed, clipped, scaled, encoded or one-hot is a function."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from mistique.dedup.dictionary import Numbered

_MAX_NBYTES = 64 * 1024 * 1024
_SAMPLED = 128
_PROBES = _SAMPLED // 3, _SAMPLED - 1
# A table of so many values, as a share of the rows, is shorter than any numbers.
_SMALL = 1 / 32
# A larger one is where the column itself has at least this share of so many.
_MIN_SHARE = 1 / 4


@dataclass(frozen=True, eq=False)
class _Base:
    numbers: np.ndarray
    first: np.ndarray  # the row in which each number comes first
    n_samples: np.ndarray  # those rows for the sampled ones
    n_rows: int
    n_values: int
    probes: tuple[int, int]  # two of the sampled ones

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes + self.first.nbytes


class Bases:
    """Numbers of columns that were stored, and which of them a column is a function of.

    A column is a function of a base if it has one value wherever the base has one. It is then stored as the numbers of
    the base, which are there already, and a table of its values, in which some may be equal. Threads may share one.

    Examples
    --------
    >>> from mistique.dedup.dictionary import numbered
    >>> bases = Bases()
    >>> rooms = np.arange(6400.0) % 100
    >>> bases.remember(b"rooms", numbered(rooms))
    >>> found = bases.find(numbered(np.minimum(rooms, 2)), np.minimum(rooms, 2))
    >>> len(found.values), found.values[:5], found.numbers[98:102]
    (100, array([0., 1., 2., 2., 2.]), array([98, 99,  0,  1], dtype=uint8))
    >>> bases.find(numbered(rooms + np.arange(6400) // 100), rooms + np.arange(6400) // 100) is None
    True
    """

    def __init__(self) -> None:
        self._bases: OrderedDict[bytes, _Base] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    def remember(self, name: bytes, taken: Numbered) -> None:
        """Keep the numbers of a column, under a name that no others have, while there is room."""
        if len(taken.values) < 2:
            return
        with self._lock:
            if name in self._bases:
                self._bases.move_to_end(name)
                return
            first = first_rows(taken.numbers)
            samples = first[taken.numbers[_rows(len(taken.numbers))]]
            probes = int(samples[_PROBES[0]]), int(samples[_PROBES[1]])
            base = _Base(taken.numbers, first, samples, len(taken.numbers), len(first), probes)
            self._bases[name] = base
            self._nbytes += base.nbytes
            while self._nbytes > _MAX_NBYTES:
                _, oldest = self._bases.popitem(last=False)
                self._nbytes -= oldest.nbytes

    def find(self, taken: Numbered, cells: np.ndarray) -> Numbered | None:
        """The base with the fewest values that a column is a function of; None: there is none where that is shorter.

        Parameters
        ----------
        taken : Numbered
            The column by its own numbers.
        cells : ndarray of shape (n_rows,)
            The column.
        """
        own, n_rows, n_own = taken.numbers, len(cells), len(taken.values)
        if n_own < 2:
            return None
        rows, most = _rows(n_rows), max(n_own / _MIN_SHARE, n_rows * _SMALL)
        with self._lock:
            known = [b for b in self._bases.values() if b.n_rows == n_rows and n_own <= b.n_values <= most]
        # Of a table of thousands of columns nearly all bases go here, in 0.1 us each where a comparison takes 8.
        number_at = own.item
        first, second = (number_at(rows[probe]) for probe in _PROBES)
        known = [b for b in known if number_at(b.probes[0]) == first and number_at(b.probes[1]) == second]
        if not known:
            return None
        # Where the column has not its commonest value, which would fit most bases.
        others = np.flatnonzero(own != np.bincount(own[rows]).argmax())
        others = others[:: max(len(others) // _SAMPLED, 1)][: 2 * _SAMPLED]
        sample, rest = own[rows], own[others]
        for base in sorted(known, key=lambda base: base.n_values):
            if not np.array_equal(own[base.n_samples], sample):
                continue
            if not np.array_equal(own[base.first[base.numbers[others]]], rest):
                continue
            told = own[base.first]
            if np.array_equal(told[base.numbers], own):
                return Numbered(base.numbers, cells[base.first])
        return None


def first_rows(numbers: np.ndarray) -> np.ndarray:
    """The row in which each number comes first, of numbers by first occurrence."""
    highest = np.maximum.accumulate(numbers)
    is_first = np.empty(len(numbers), bool)
    is_first[:1] = True
    np.not_equal(highest[1:], highest[:-1], out=is_first[1:])
    return np.flatnonzero(is_first).astype(np.uint32)


def _rows(n_rows: int) -> np.ndarray:
    return np.linspace(0, n_rows - 1, _SAMPLED).astype(np.int64)
