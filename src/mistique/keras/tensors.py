"""Tensors of whatever backend: their values, their names in a structure, and mappings by their identity."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

import keras
import numpy as np

from mistique.schema import join_path

Tensor = Any
T = TypeVar("T")


class ByTensor(Generic[T]):
    """A mapping by the identity of tensors, which it does not keep alive.

    An identity is used again once its tensor is gone, so the tensor is looked at too.
    """

    def __init__(self) -> None:
        self._items: dict[int, tuple[weakref.ref[Any], T]] = {}

    def __setitem__(self, tensor: Tensor, value: T) -> None:
        self._items[id(tensor)] = (weakref.ref(tensor), value)

    def get(self, tensor: Tensor) -> T | None:
        """What was set for this very tensor, or None."""
        found = self._items.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None


def as_tensors(structure: Any) -> Any:
    """The same structure, of tensors: each array keeps its dtype, for the model to cast as it always does."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, structure)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The values of a tensor or a variable; 16-bit floats stay as they are.

    Not by `keras.ops.convert_to_numpy` on TensorFlow, where every call gives NumPy 2's deprecation warning.
    """
    if keras.backend.backend() == "tensorflow" and hasattr(tensor, "numpy"):
        return as_text(np.asarray(tensor.numpy()))
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def as_text(values: np.ndarray) -> np.ndarray:
    """Text as text, which comes from TensorFlow as objects, each of them bytes; anything else as it is.

    Raises
    ------
    UnicodeDecodeError
    """
    if values.dtype.kind == "S":
        values = values.astype(object)
    if values.dtype.kind != "O" or not values.size or not isinstance(values.flat[0], (bytes, str)):
        return values
    texts = [text.decode() if isinstance(text, bytes) else text for text in values.flat]
    return np.array(texts, dtype=str).reshape(values.shape)


def as_view(tensor: Tensor) -> np.ndarray:
    """The values of a tensor, read only; in its own memory where its framework lends that.

    Not for variables, whose memory is written again. ``.numpy()`` of TensorFlow copies.
    """
    try:
        values = as_text(np.asarray(memoryview(tensor)))
    except (TypeError, ValueError, BufferError, NotImplementedError):  # no buffer, or 16-bit floats in it
        return to_numpy(tensor)
    values.flags.writeable = False
    return values


def named_leaves(name: str, structure: Any) -> list[tuple[str, Any]]:
    """The leaves of a structure with their names: ``lstm``, or ``lstm/0``, ``lstm/1``, or ``head/a``."""
    return [
        (f"{name}/{join_path(*map(str, path))}" if path else name, leaf)
        for path, leaf in keras.tree.flatten_with_path(structure)
        if leaf is not None
    ]


def graph_of(structure: Any) -> Any | None:
    """The TensorFlow graph that the tensors of a structure belong to; None: they hold values."""
    leaf = keras.tree.flatten(structure)[0]
    return leaf.graph if "Symbolic" in type(leaf).__name__ else None


def is_of_pass(tensor: Tensor, graph: Any | None) -> bool:
    """It holds values, or is of the graph that the pass is traced into.

    It is not of a trace within the pass, in which a layer is described rather than run.
    """
    kind = type(tensor).__name__
    if isinstance(tensor, keras.KerasTensor) or "Tracer" in kind:
        return False
    return "Symbolic" not in kind or (graph is not None and tensor.graph is graph)
