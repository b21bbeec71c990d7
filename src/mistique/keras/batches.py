"""x and y, arrays or a stream, as batches of exactly so many rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import keras
import numpy as np

from mistique.errors import CaptureError
from mistique.keras.content import content_digest
from mistique.keras.rows import Rows, classes_of
from mistique.keras.streams import CHANGED, Stream, as_array, stream_of
from mistique.keras.survey import Survey, arrays_of, leaves_of, map_leaves, n_rows_of, survey
from mistique.keras.tensors import named_leaves
from mistique.schema import INPUT, TARGET


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive rows.

    Parameters
    ----------
    inputs : structure of ndarray, each of shape (n_rows, ...)
    targets : structure of ndarray, optional
    n_rows : int
    """

    inputs: Any
    targets: Any
    n_rows: int


@dataclass(eq=False)
class Batches:
    """The batches of x and y: `batch_rows` rows each, the last with what is left.

    A data set is cut again into such batches, so that recomputing, which knows `batch_rows` alone, runs in
    the geometry of the capture: Dense at batch 1 and at batch 128 differ in the last bits. Batches of several
    lengths, as `padded_batch` yields them, are padded with zeros to the longest.

    Parameters
    ----------
    x : array, list or dict of arrays, DataFrame; or tf.data.Dataset, PyDataset or generator
        The last three yield x, (x, y) or (x, y, weights).
    y : array, list or dict of arrays, Series, optional
    batch_rows : int
    row_labels : ndarray or Index, optional
        None: the index of a DataFrame, otherwise none.
    rows : Rows
        Which of them.

    Raises
    ------
    CaptureError
        There are no rows, x and y differ in length, or the data set is endless or in a new order each time.

    Examples
    --------
    >>> [batch.n_rows for batch in Batches(np.zeros((5, 2)), batch_rows=2)]
    [2, 2, 1]
    >>> Batches(np.zeros((5, 2)), np.zeros(4), batch_rows=2)
    Traceback (most recent call last):
    ...
    mistique.errors.CaptureError: expected x and y of one length, got 5 rows of x and 4 of y
    """

    x: Any
    y: Any = None
    batch_rows: int = 256
    row_labels: Any = None
    rows: Rows = field(default_factory=Rows)
    _stream: Stream | None = field(default=None, init=False)
    _survey: Survey | None = field(default=None, init=False)
    _chosen: np.ndarray | None = field(default=None, init=False)
    _digests: list[dict[str, str]] = field(default_factory=list, init=False)
    _is_read: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise CaptureError(f"batch_size: expected at least 1, got {self.batch_rows}")
        if self.row_labels is None and hasattr(self.x, "iloc"):
            self.row_labels = self.x.index
        self._stream = stream_of(self.x, self.rows.steps)
        if self._stream is not None:
            # A generator is read once: whoever makes batches of it again needs what was read.
            self.x = self._stream
            if self.y is not None:
                raise CaptureError("y: expected None, as the data set given for x yields it itself, got an array")
            return
        if self.rows.steps is not None:
            raise CaptureError("steps: expected none for arrays, which end; give n_rows to take fewer rows")
        self.x, self.y = keras.tree.map_structure(as_array, self.x), map_leaves(as_array, self.y)
        self._choose(self._check_lengths(), classes_of(leaves_of(self.y)) if self.rows.stratify else None)
        if self._chosen is not None:
            self.x, self.y = _rows(self.x, self._chosen), _rows(self.y, self._chosen)

    def content(self) -> dict[str, str]:
        """A digest of each input and target, ``input`` or ``input/a``, by batch; empty: of that there is none.

        Of a data set there is none before it was read to its end once. Arrays are read each time: their owner may
        have written into them.
        """
        if self._stream is None:
            digests = [_digests_of(batch) for batch in self]
        elif self._is_read:
            digests = self._digests
        else:
            return {}
        names = dict.fromkeys(name for of_batch in digests for name in of_batch)
        return {name: _joined([of_batch.get(name, "") for of_batch in digests]) for name in names}

    @property
    def must_be_read(self) -> bool:
        """Whether what it yields is only known from reading it again."""
        return self._stream is not None

    def __iter__(self) -> Iterator[Batch]:
        if self._stream is not None:
            yield from self._cut(self._stream)
            return
        n_rows = n_rows_of(self.x)
        for start in range(0, n_rows, self.batch_rows):
            stop = min(start + self.batch_rows, n_rows)
            yield Batch(_rows(self.x, slice(start, stop)), _rows(self.y, slice(start, stop)), stop - start)

    def _check_lengths(self) -> int:
        lengths = {len(leaf) for leaf in keras.tree.flatten(self.x)}
        if len(lengths) != 1:
            raise CaptureError(f"expected inputs of one length, got {', '.join(map(str, sorted(lengths))) or 'none'}")
        n_rows = lengths.pop()
        if n_rows == 0:
            raise CaptureError("expected at least one row, got an empty x")
        for leaf in leaves_of(self.y):
            if len(leaf) != n_rows:
                raise CaptureError(f"expected x and y of one length, got {n_rows} rows of x and {len(leaf)} of y")
        return n_rows

    def _choose(self, n_rows: int, classes: np.ndarray | None) -> None:
        """Fix which rows are taken, of so many, and their labels."""
        self._check_labels(n_rows)
        self._chosen = self.rows.chosen(n_rows, classes)
        if self._chosen is not None:
            self.row_labels = self._chosen if self.row_labels is None else _labels(self.row_labels, self._chosen)

    def _check_labels(self, n_rows: int) -> None:
        if self.row_labels is not None and len(self.row_labels) != n_rows:
            raise CaptureError(f"expected a row label for each of {n_rows} rows, got {len(self.row_labels)}")

    def _cut(self, stream: Stream) -> Iterator[Batch]:
        waiting: list[Any] = []
        n_waiting = n_rows = n_batches = 0
        for structure in self._structures(stream):
            waiting.append(structure)
            n_waiting += n_rows_of(structure[0])
            while n_waiting >= self.batch_rows:
                batch, waiting = _take(waiting, self.batch_rows)
                yield self._unchanged(batch, n_batches)
                n_waiting, n_rows, n_batches = n_waiting - batch.n_rows, n_rows + batch.n_rows, n_batches + 1
        if n_waiting:
            batch, _ = _take(waiting, n_waiting)
            yield self._unchanged(batch, n_batches)
            n_rows, n_batches = n_rows + batch.n_rows, n_batches + 1
        if n_rows == 0:
            raise CaptureError("expected at least one row, got an empty data set")
        if n_batches < len(self._digests):
            raise CaptureError(CHANGED)
        self._check_labels(n_rows)
        self._is_read = True

    def _structures(self, stream: Stream) -> Iterator[Any]:
        """The batches of a stream as it yields them, in one length, without the rows that are not taken."""
        if self._survey is None and not (stream.has_one_length and self.rows.n_rows is None):
            self._survey = survey(stream, has_classes=self.rows.stratify)
            self._choose(self._survey.n_rows, self._survey.classes)
        n_read = 0
        for structure in arrays_of(stream):
            first, n_read = n_read, n_read + n_rows_of(structure[0])
            if self._survey is not None:
                structure = self._survey.padded(structure)
            if self._chosen is not None:
                here = self._chosen[(self._chosen >= first) & (self._chosen < n_read)] - first
                structure = _rows(structure, here)
            if n_rows_of(structure[0]):
                yield structure

    def _unchanged(self, batch: Batch, index: int) -> Batch:
        """The batch, if it is what the data set gave the first time."""
        digest = _digests_of(batch)
        if index == len(self._digests):
            self._digests.append(digest)
        if self._digests[index] != digest:
            raise CaptureError(CHANGED)
        return batch


def _digests_of(batch: Batch) -> dict[str, str]:
    targets = [] if batch.targets is None else named_leaves(TARGET, batch.targets)
    return {name: content_digest(leaf) for name, leaf in [*named_leaves(INPUT, batch.inputs), *targets]}


def _joined(digests: list[str]) -> str:
    return blake2b("\n".join(digests).encode(), digest_size=16).hexdigest() if all(digests) else ""


def _rows(structure: Any, of: slice | np.ndarray) -> Any:
    return map_leaves(lambda leaf: leaf[of], structure)


def _labels(labels: Any, of: np.ndarray) -> Any:
    return np.asarray(labels)[of] if isinstance(labels, (list, tuple)) else labels[of]


def _take(waiting: list[Any], n_rows: int) -> tuple[Batch, list[Any]]:
    """The first rows of what waits as a batch, and the rest."""
    joined = waiting[0] if len(waiting) == 1 else map_leaves(lambda *leaves: np.concatenate(leaves), *waiting)
    (inputs, targets), rest = _rows(joined, slice(n_rows)), _rows(joined, slice(n_rows, None))
    return Batch(inputs, targets, n_rows), [rest] if n_rows_of(rest) else []
