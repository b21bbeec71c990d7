"""Which layers made a tensor, from which tensors, with which arguments: what its lineage is computed from.

The parents of an output say less. They are the nearest *recorded* outputs, in no order, and what lies between
is not told: `subtract(a, b)` and `subtract(b, a)` have the same parents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from mistique.keras.forward import Call
from mistique.keras.tensors import Tensor

Arguments = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """How a tensor came to be.

    Parameters
    ----------
    layer : keras.Operation, optional
        Whose call gave it. None: it is an input of the model, or the cast of a tensor.
    leaf : str
        Which of the call's outputs, ``/0``; the name of an input; the dtype that a cast gave.
    arguments : tuple of (str, object)
        Of the call, each with its place: a `Made` for a tensor, or a plain value.
    """

    layer: Any | None
    leaf: str
    arguments: Arguments


def made_by(call: Call, leaf: str, made_of: Callable[[Tensor], Made | None]) -> Made | None:
    """How an output of a call came to be; None as soon as one of its arguments has an unknown history."""
    arguments: list[tuple[str, Any]] = []
    for path, value in keras.tree.flatten_with_path(call.arguments):
        if keras.ops.is_tensor(value):
            value = made_of(value)
            if value is None:
                return None
        elif value is not None and not isinstance(value, (bool, int, float, str, type(...))):
            return None
        arguments.append(("/".join(map(str, path)), value))
    return Made(call.layer, leaf, tuple(arguments))


def made_by_cast(tensor: Tensor, made_of: Callable[[Tensor], Made | None]) -> Made | None:
    """How a tensor of a graph came to be that Keras cast before a layer's `call`; None: it was not cast so."""
    operation = getattr(tensor, "op", None) if "Symbolic" in type(tensor).__name__ else None
    if operation is None or operation.type != "Cast":
        return None
    before = made_of(operation.inputs[0])
    return None if before is None else Made(None, tensor.dtype.name, (("0", before),))
