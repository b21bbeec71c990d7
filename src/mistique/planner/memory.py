"""What was recomputed whole stays in memory for a while: who digs through a model asks for it again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from mistique.ingest.cells import Column
from mistique.planner.values import Values, chosen_columns
from mistique.schema import SPARSE_ROWS, Intermediate
from mistique.storage.captures import Capture
from mistique.storage.facts import CaptureId
from mistique.storage.record_cells import Order

K = TypeVar("K")
V = TypeVar("V")
_Name = tuple[CaptureId, Order, str]
# A text is an object of Python.
_TEXT_NBYTES = 64


@dataclass(frozen=True, eq=False)
class Kept:
    """All rows and columns of an intermediate, as the model gave them again.

    Parameters
    ----------
    values : Values
    max_abs_error : float
        How far they may be from what was captured.
    """

    values: Values
    max_abs_error: float

    def part(self, rows: np.ndarray, columns: np.ndarray) -> Values:
        """A copy of some rows and columns, which are sorted: whoever gets it may change it."""
        node, parts = self.values.intermediate, self.values.parts
        chosen = chosen_columns(parts, node, columns)  # type: ignore[arg-type]
        if len(rows) < node.n_rows:
            return chosen.take(rows)
        if isinstance(chosen.parts, np.ndarray):
            return Values(node, columns, chosen.parts.copy() if len(columns) == node.n_columns else chosen.parts)
        copies = [
            Column(part.cells.copy(), None if part.valid is None else part.valid.copy(), part.type)
            for part in chosen.parts
        ]
        return Values(node, columns, copies)


class Recent(Generic[K, V]):
    """What was used last, so many of a kind. Threads share it: what one lets go another makes again.

    Parameters
    ----------
    n_kept : int
    """

    def __init__(self, n_kept: int) -> None:
        self._n_kept, self._lock = n_kept, Lock()
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """What is kept under that key; None: nothing."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: K, value: V) -> V:
        """Take one more, and let go of what was not used for longest."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            if len(self._kept) > self._n_kept:
                self._kept.popitem(last=False)
        return value

    def drop(self, key: K) -> None:
        """Keep one no longer, if it is there."""
        with self._lock:
            self._kept.pop(key, None)


class Memory:
    """Intermediates that were recomputed whole in this process, those that were used last.

    Parameters
    ----------
    max_nbytes : int
        Of all of them. One takes no more than half of it.

    Notes
    -----
    What was captured never changes, so nothing here is ever out of date: a capture that replaces another has another
    order. Held by ``tests/planner/test_memory.py``.
    """

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes, self._nbytes = max_nbytes, 0
        self._kept: OrderedDict[_Name, tuple[Kept, int]] = OrderedDict()
        self._lock = Lock()

    def takes(self, node: Intermediate) -> bool:
        """Whether there is room for one like this."""
        return node.container != SPARSE_ROWS and 2 * node.raw_nbytes <= self._max_nbytes

    def get(self, capture: Capture, name: str) -> Kept | None:
        """What is kept of an intermediate; None: nothing."""
        with self._lock:
            found = self._kept.get((capture.id, capture.order, name))
            if found is not None:
                self._kept.move_to_end((capture.id, capture.order, name))
            return None if found is None else found[0]

    def keep(self, capture: Capture, values: Values, *, max_abs_error: float) -> Kept:
        """Take all rows and columns of an intermediate, which nobody else may change; others may have to go."""
        kept, nbytes = Kept(values, max_abs_error), _nbytes(values)
        name = capture.id, capture.order, values.intermediate.name
        with self._lock:
            self._nbytes += nbytes - self._kept.pop(name, (kept, 0))[1]
            self._kept[name] = kept, nbytes
            while self._nbytes > self._max_nbytes:
                self._nbytes -= self._kept.popitem(last=False)[1][1]
        return kept

    def drop(self, of: CaptureId) -> None:
        """Keep nothing of a capture any longer."""
        with self._lock:
            for name in [name for name in self._kept if name[0] == of]:
                self._nbytes -= self._kept.pop(name)[1]


def _nbytes(values: Values) -> int:
    if isinstance(values.parts, np.ndarray):
        return values.parts.nbytes
    cells = [part.cells for part in values.parts]
    return sum(one.nbytes + _TEXT_NBYTES * len(one) * (one.dtype.kind == "O") for one in cells)
