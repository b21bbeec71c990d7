"""x and y, arrays or a data set, as batches of exactly so many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import keras
import numpy as np

from mistique.errors import CaptureError
from mistique.keras.content import content_digest
from mistique.keras.forward import named_leaves, to_numpy
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
    the geometry of the capture: Dense at batch 1 and at batch 128 differ in the last bits.

    Parameters
    ----------
    x : array, list or dict of arrays, DataFrame, or finite tf.data.Dataset of x, (x, y) or (x, y, weights)
    y : array, list or dict of arrays, Series, optional
    batch_rows : int
    row_labels : ndarray or Index, optional
        None: the index of a DataFrame, otherwise none.

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
    _digests: list[dict[str, str]] = field(default_factory=list)
    _is_read: bool = False

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise CaptureError(f"batch_size: expected at least 1, got {self.batch_rows}")
        if self.row_labels is None and hasattr(self.x, "iloc"):
            self.row_labels = self.x.index
        if self._is_dataset:
            _check_dataset(self.x)
            if self.y is not None:
                raise CaptureError("y: expected None, as the data set given for x yields it itself, got an array")
        else:
            self.x = keras.tree.map_structure(_as_array, self.x)
            self.y = None if self.y is None else keras.tree.map_structure(_as_array, self.y)
            self._check_lengths()

    def content(self) -> dict[str, str]:
        """A digest of each input and target, ``input`` or ``input/a``, by batch; empty: of that there is none.

        Of a data set there is none before it was read to its end once. Arrays are read each time: their owner may
        have written into them.
        """
        if not self._is_dataset:
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
        return self._is_dataset

    @property
    def _is_dataset(self) -> bool:
        # By name: nothing here imports TensorFlow for a user of another backend.
        return any(cls.__module__.startswith("tensorflow.python.data.") for cls in type(self.x).__mro__)

    def __iter__(self) -> Iterator[Batch]:
        if self._is_dataset:
            yield from self._cut_dataset()
            return
        n_rows = _n_rows(self.x)
        for start in range(0, n_rows, self.batch_rows):
            stop = min(start + self.batch_rows, n_rows)
            targets = None if self.y is None else _rows(self.y, start, stop)
            yield Batch(_rows(self.x, start, stop), targets, stop - start)

    def _check_lengths(self) -> None:
        lengths = {len(leaf) for leaf in keras.tree.flatten(self.x)}
        if len(lengths) != 1:
            raise CaptureError(f"expected inputs of one length, got {', '.join(map(str, sorted(lengths))) or 'none'}")
        n_rows = lengths.pop()
        if n_rows == 0:
            raise CaptureError("expected at least one row, got an empty x")
        for leaf in keras.tree.flatten(self.y):
            if leaf is not None and len(leaf) != n_rows:
                raise CaptureError(f"expected x and y of one length, got {n_rows} rows of x and {len(leaf)} of y")
        self._check_labels(n_rows)

    def _check_labels(self, n_rows: int) -> None:
        if self.row_labels is not None and len(self.row_labels) != n_rows:
            raise CaptureError(f"expected a row label for each of {n_rows} rows, got {len(self.row_labels)}")

    def _cut_dataset(self) -> Iterator[Batch]:
        waiting: list[Any] = []
        n_waiting = n_rows = n_batches = 0
        for element in self.x.as_numpy_iterator():
            inputs, targets = _split(element)
            waiting.append((inputs, targets))
            n_waiting += _n_rows(inputs)
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
            raise CaptureError(_CHANGED)
        self._check_labels(n_rows)
        self._is_read = True

    def _unchanged(self, batch: Batch, index: int) -> Batch:
        """The batch, if it is what the data set gave the first time."""
        digest = _digests_of(batch)
        if index == len(self._digests):
            self._digests.append(digest)
        if self._digests[index] != digest:
            raise CaptureError(_CHANGED)
        return batch


_CHANGED = (
    "expected the same rows each time the data set is read, got others: rows of two epochs could not be told "
    "apart. Give the data set without .shuffle(), or .cache() it after that"
)


def _digests_of(batch: Batch) -> dict[str, str]:
    targets = [] if batch.targets is None else named_leaves(TARGET, batch.targets)
    return {name: content_digest(leaf) for name, leaf in [*named_leaves(INPUT, batch.inputs), *targets]}


def _joined(digests: list[str]) -> str:
    return blake2b("\n".join(digests).encode(), digest_size=16).hexdigest() if all(digests) else ""


def _check_dataset(dataset: Any) -> None:
    if int(dataset.cardinality()) == -1:
        raise CaptureError("expected a finite data set, got an endless one: give dataset.take(n) with n batches")
    node = dataset
    while not type(node).__name__.startswith(("_Cache", "Cache")):
        # Reading such a set once more also moves the order of its next reader, which may be the training.
        if getattr(node, "_reshuffle_each_iteration", None):
            raise CaptureError(_CHANGED)
        inputs: Sequence[Any] = node._inputs() if hasattr(node, "_inputs") else ()
        if len(inputs) != 1:
            return
        node = inputs[0]


def _as_array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, np.ndarray):
        return leaf
    if hasattr(leaf, "iloc"):
        return np.asarray(leaf)
    if keras.ops.is_tensor(leaf):
        return to_numpy(leaf)
    if hasattr(leaf, "__array__"):
        return np.asarray(leaf)
    found = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
    raise CaptureError(f"expected arrays, a list or dict of arrays, or a finite tf.data.Dataset; got {found}")


def _split(element: Any) -> tuple[Any, Any]:
    """What a data set yields as x and y, by the rule of ``fit``: (x,), (x, y) or (x, y, weights)."""
    if isinstance(element, tuple):
        return element[0], element[1] if len(element) > 1 else None
    return element, None


def _n_rows(structure: Any) -> int:
    leaf = keras.tree.flatten(structure)[0]
    if np.ndim(leaf) == 0:
        raise CaptureError("expected batches of rows from the data set, got single values: give dataset.batch(n)")
    return len(leaf)


def _rows(structure: Any, start: int, stop: int) -> Any:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[start:stop], structure)


def _take(waiting: list[Any], n_rows: int) -> tuple[Batch, list[Any]]:
    """The first rows of what waits as a batch, and the rest."""
    joined = waiting[0]
    if len(waiting) > 1:
        joined = keras.tree.map_structure(lambda *a: None if a[0] is None else np.concatenate(a), *waiting)
    (inputs, targets), rest = _rows(joined, 0, n_rows), _rows(joined, n_rows, _n_rows(joined))
    return Batch(inputs, targets, n_rows), [rest] if _n_rows(rest) else []
