"""Memory that large arrays are read into, time and again: fresh pages take longer to get than to fill."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

_FEWEST_NBYTES = 1 << 20


class Lender:
    """Lends memory for arrays; once nobody holds one any more, its memory is kept for the next.

    Threads may share it, without a lock, as arrays are given back wherever the last reference to them goes.

    Parameters
    ----------
    keeps_nbytes : int
        So much that nobody holds is kept; what was given back first goes first.
    """

    def __init__(self, keeps_nbytes: int) -> None:
        self._keeps_nbytes = keeps_nbytes
        self._kept: dict[int, np.ndarray] = {}  # in the order in which they were given back

    @property
    def kept_nbytes(self) -> int:
        """Of memory that nobody holds."""
        return sum(memory.nbytes for memory in list(self._kept.values()))

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with any values in it, as of `numpy.empty`."""
        cell = np.dtype(dtype)
        nbytes = prod(shape) * cell.itemsize
        if nbytes < _FEWEST_NBYTES:  # such memory malloc keeps
            return np.empty(shape, cell)
        lent = _Lent(self, self._taken(nbytes))
        array: np.ndarray = np.asarray(lent)[:nbytes].view(cell).reshape(shape)
        return array

    def give_back(self, memory: np.ndarray) -> None:
        """Keep it for the next array."""
        self._kept[id(memory)] = memory
        for which in list(self._kept):
            if self.kept_nbytes <= self._keeps_nbytes:
                break
            self._kept.pop(which, None)

    def close(self) -> None:
        """Let go of what is kept, and of what is given back later."""
        self._keeps_nbytes = 0
        self._kept.clear()

    def _taken(self, nbytes: int) -> np.ndarray:
        """The smallest that is kept and large enough, if it is not more than twice as large, or new memory."""
        kept = sorted((memory.nbytes, which) for which, memory in list(self._kept.items()))
        for size, which in kept:
            if nbytes <= size <= 2 * nbytes:
                memory = self._kept.pop(which, None)
                # Another thread may have taken it, or have let go of it and kept another under its number.
                if memory is not None and memory.nbytes >= nbytes:
                    return memory
        return np.empty(nbytes, np.uint8)


class _Lent:
    """What arrays over some memory refer to: it goes with the last of them."""

    def __init__(self, lender: Lender, memory: np.ndarray) -> None:
        self._lender, self._memory = lender, memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return dict(self._memory.__array_interface__)

    def __del__(self) -> None:
        self._lender.give_back(self._memory)
