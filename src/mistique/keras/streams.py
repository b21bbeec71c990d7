"""What yields its rows batch by batch: a tf.data.Dataset, a keras.utils.PyDataset, a generator."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import GeneratorType
from typing import Any, Protocol

import keras
import numpy as np

from mistique.errors import CaptureError
from mistique.keras.tensors import as_text, to_numpy

_ENDLESS = "expected a finite data set, got an endless one: give steps=n, the number of batches to read"
CHANGED = (
    "expected the same rows each time the data set is read, got others: rows of two epochs could not be told "
    "apart. Give the data set without .shuffle(), or .cache() it after that"
)


class Stream(Protocol):
    """Batches that can be read again and again."""

    @property
    def has_one_length(self) -> bool:
        """Rows of all batches are known to have one shape."""

    def read(self) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets of each batch, structures of arrays; targets may be None."""


def stream_of(x: Any, steps: int | None) -> Stream | None:
    """The stream that `x` is, or was made before; None: it is arrays.

    Raises
    ------
    CaptureError
        It is endless and there are no `steps`, or it comes in a new order each time.
    """
    if isinstance(x, (_TensorFlowData, _PyData, _Generated)):
        return x
    # By name: nothing here imports TensorFlow for a user of another backend.
    if any(cls.__module__.startswith("tensorflow.python.data.") for cls in type(x).__mro__):
        return _TensorFlowData(x, steps)
    if isinstance(x, keras.utils.PyDataset):
        return _PyData(x, steps)
    if isinstance(x, GeneratorType) or (hasattr(x, "__next__") and not hasattr(x, "__array__")):
        return _Generated(x, steps)
    return None


class _TensorFlowData:
    """A tf.data.Dataset."""

    def __init__(self, dataset: Any, steps: int | None) -> None:
        if steps is not None:
            dataset = dataset.take(steps)
        elif int(dataset.cardinality()) == -1:
            raise CaptureError(f"{_ENDLESS}, or dataset.take(n)")
        _check_order(dataset)
        self._dataset = dataset
        shapes = [getattr(spec, "shape", None) for spec in keras.tree.flatten(dataset.element_spec)]
        self.has_one_length = all(shape is not None and None not in tuple(shape)[1:] for shape in shapes)

    def read(self) -> Iterator[tuple[Any, Any]]:
        return (_split(element) for element in self._dataset.as_numpy_iterator())


class _PyData:
    """A keras.utils.PyDataset, read by index in this thread."""

    has_one_length = False  # its batches are only known from reading them

    def __init__(self, dataset: Any, steps: int | None) -> None:
        known = dataset.num_batches
        if known is None and steps is None:
            raise CaptureError(_ENDLESS)
        self._dataset = dataset
        self._n_batches = min(n for n in (known, steps) if n is not None)

    def read(self) -> Iterator[tuple[Any, Any]]:
        for index in range(self._n_batches):
            with _undrawn():
                element = self._dataset[index]
            yield _split(element)


class _Generated:
    """A generator: read once, and held, as it cannot be read again."""

    has_one_length = False

    def __init__(self, generator: Iterator[Any], steps: int | None) -> None:
        if steps is None:
            raise CaptureError("a generator does not say where it ends: give steps=n, the number of batches to read")
        self._generator: Iterator[Any] | None = generator
        self._steps = steps
        self._held: list[tuple[Any, Any]] = []

    def read(self) -> Iterator[tuple[Any, Any]]:
        if self._generator is not None:
            # What it yields may be one array that it fills anew.
            copied = (keras.tree.map_structure(_copied, _split(e)) for e in islice(self._generator, self._steps))
            with _undrawn():
                self._held, self._generator = list(copied), None
        return iter(self._held)


def as_array(leaf: Any) -> np.ndarray:
    """An array, a tensor or a column as an array; text as text.

    Raises
    ------
    CaptureError
        It is neither, or ragged.
    """
    if "Ragged" in type(leaf).__name__:
        raise CaptureError(_RAGGED)
    if isinstance(leaf, np.ndarray):
        return _text_or_numbers(leaf)
    if hasattr(leaf, "iloc"):
        return np.asarray(leaf)
    if keras.ops.is_tensor(leaf):
        return _text_or_numbers(to_numpy(leaf))
    if hasattr(leaf, "__array__") or isinstance(leaf, (int, float)):
        return np.asarray(leaf)
    found = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
    raise CaptureError(
        f"expected arrays, a list or dict of arrays, a tf.data.Dataset, a keras.utils.PyDataset or a generator; "
        f"got {found}"
    )


_RAGGED = (
    "expected rows of one length, got ragged ones: give x.to_tensor(), padded with zeros, to a network that masks "
    "them, by Embedding(mask_zero=True) or Masking()"
)


def _text_or_numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "O" and values.size and isinstance(values.flat[0], np.ndarray):
        raise CaptureError(_RAGGED)
    try:
        return as_text(values)
    except UnicodeDecodeError as error:
        raise CaptureError(f"expected text in UTF-8, got other bytes: {error}") from error


def _split(element: Any) -> tuple[Any, Any]:
    """What a data set yields as x and y, by the rule of ``fit``: (x,), (x, y) or (x, y, weights)."""
    if isinstance(element, tuple):
        return element[0], element[1] if len(element) > 1 else None
    return element, None


def _copied(leaf: Any) -> Any:
    return None if leaf is None else np.array(as_array(leaf))


def _check_order(dataset: Any) -> None:
    node = dataset
    while not type(node).__name__.startswith(("_Cache", "Cache")):
        # Reading such a set once more also moves the order of its next reader, which may be the training.
        if getattr(node, "_reshuffle_each_iteration", None):
            raise CaptureError(CHANGED)
        inputs: Sequence[Any] = node._inputs() if hasattr(node, "_inputs") else ()
        if len(inputs) != 1:
            return
        node = inputs[0]


@contextmanager
def _undrawn() -> Iterator[None]:
    """Python's and NumPy's global generators end as they began: whoever reads may draw as the training does."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's generator, not ours
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - the user's generator, not ours
