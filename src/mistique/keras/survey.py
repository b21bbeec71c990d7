"""What a stream holds, learned by reading it once: its rows, their classes, and the longest of each axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from mistique.errors import CaptureError
from mistique.keras.rows import classes_of
from mistique.keras.streams import CHANGED, Stream, as_array

Structure = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Survey:
    """One reading of a stream.

    Parameters
    ----------
    n_rows : int
    classes : ndarray of shape (n_rows,), optional
        Of the target, if they were asked for and there is one.
    shapes : sequence of tuple of int
        For each leaf of inputs and targets the longest rows, axis by axis.
    """

    n_rows: int
    classes: np.ndarray | None
    shapes: tuple[tuple[int, ...], ...]

    def padded(self, structure: Structure) -> Structure:
        """Inputs and targets of a batch, each leaf with zeros (or empty text) up to the longest rows of all batches."""
        leaves = leaves_of(structure)
        if len(leaves) != len(self.shapes):
            raise CaptureError(CHANGED)
        lengthened = iter([_lengthened(leaf, shape) for leaf, shape in zip(leaves, self.shapes, strict=True)])
        padded: Structure = map_leaves(lambda _: next(lengthened), structure)
        return padded


def survey(stream: Stream, *, has_classes: bool) -> Survey:
    """Read a stream to its end.

    Raises
    ------
    CaptureError
        It is empty, or its batches differ in more than the lengths of their axes.
    """
    n_rows = 0
    shapes: list[tuple[int, ...]] | None = None
    classes: list[np.ndarray | None] = []
    for structure in arrays_of(stream):
        found = [leaf.shape[1:] for leaf in leaves_of(structure)]
        shapes = shapes or found
        if [len(shape) for shape in found] != [len(shape) for shape in shapes]:
            raise CaptureError(f"expected batches of one structure, got rows of shape {shapes}, then {found}")
        shapes = [tuple(map(max, longest, shape)) for longest, shape in zip(shapes, found, strict=True)]
        n_rows += n_rows_of(structure[0])
        if has_classes:
            classes.append(classes_of(leaves_of(structure[1])))
    known = [of_batch for of_batch in classes if of_batch is not None]
    is_known = bool(known) and len(known) == len(classes)
    return Survey(n_rows, np.concatenate(known) if is_known else None, tuple(shapes or ()))


def arrays_of(stream: Stream) -> Iterator[Structure]:
    """The inputs and targets of each batch of a stream, as arrays."""
    for element in stream.read():
        yield map_leaves(as_array, element)


def leaves_of(structure: Any) -> list[Any]:
    """The leaves that are something."""
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]


def map_leaves(function: Any, *structures: Any) -> Any:
    """A structure of what a function makes of the leaves; nothing stays nothing."""
    return keras.tree.map_structure(lambda *leaves: None if leaves[0] is None else function(*leaves), *structures)


def n_rows_of(structure: Any) -> int:
    """Rows of a batch."""
    leaf = keras.tree.flatten(structure)[0]
    if np.ndim(leaf) == 0:
        raise CaptureError("expected batches of rows from the data set, got single values: give dataset.batch(n)")
    return len(leaf)


def _lengthened(leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if leaf.shape[1:] == shape:
        return leaf
    if len(leaf.shape) != len(shape) + 1 or any(
        has > wanted for has, wanted in zip(leaf.shape[1:], shape, strict=True)
    ):
        raise CaptureError(CHANGED)
    longer = np.zeros((len(leaf), *shape), leaf.dtype)
    longer[tuple(map(slice, leaf.shape))] = leaf
    return longer
