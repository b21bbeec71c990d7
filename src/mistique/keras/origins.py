"""What a call gave, and which recorded outputs the tensors of a pass come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from mistique.keras.forward import Call
from mistique.keras.provenance import Made, made_by_cast
from mistique.keras.tensors import ByTensor, Tensor, as_view, to_numpy


@dataclass(eq=False)
class Output:
    """What one call gave, or one of the several tensors that it gave.

    Parameters
    ----------
    names : list of str
        All that it answers to; the first is what it is filed under.
    role : {"input", "stage", "mask", "prediction"}
    tensor : tensor of shape (n_rows, ...)
    detail : str
        Class of the layer.
    parents : frozenset of str, optional
        First names of the outputs that it was computed from. None: not known.
    seconds : float
        From its parents to it: the layer's own, and those of layers in between that are not recorded.
    made : Made, optional
        How it came to be. None: not known in full.
    derivation : mapping, optional
        How the values should follow from those of the one parent, by what the layer is.
    """

    names: list[str]
    role: str
    tensor: Tensor
    detail: str
    parents: frozenset[str] | None
    seconds: float
    made: Made | None = None
    derivation: Mapping[str, Any] | None = None

    def values(self) -> np.ndarray:
        """The values, read only, in the dtype in which they were computed; 16-bit floats stay as they are."""
        return as_view(self.tensor)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor came from.

    The outputs that it was computed from, None when that is not known; and the seconds of layers since then
    that are not recorded themselves.
    """

    names: frozenset[str] | None
    seconds: float = 0.0
    made: Made | None = None


class Origins:
    """The origin of each tensor of one pass.

    Parameters
    ----------
    outputs : list of Output
        Those recorded so far; it grows with the pass.
    graph : object, optional
        The TensorFlow graph that the pass is traced into.
    finds_casts : bool
        Look for the origin of tensors that were cast on their way from one layer to the next.
    """

    def __init__(self, outputs: list[Output], graph: Any | None, *, finds_casts: bool) -> None:
        self._outputs, self._graph, self._finds_casts = outputs, graph, finds_casts
        # Weakly: tensors that are not recorded are let go as soon as the model lets them go.
        self._of: ByTensor[Origin] = ByTensor()

    def __setitem__(self, tensor: Tensor, origin: Origin) -> None:
        self._of[tensor] = origin

    def get(self, tensor: Tensor) -> Origin | None:
        """What was set for this very tensor, or None."""
        return self._of.get(tensor)

    def made(self, tensor: Tensor) -> Made | None:
        """How a tensor came to be; None: not known in full."""
        origin = self._of.get(tensor)
        return origin.made if origin is not None else made_by_cast(tensor, self.made)

    def of_call(self, call: Call) -> Origin:
        """The joint origin of what a call is given."""
        origin = self.of(call.tensors)
        # A layer that takes a mask has it among its arguments; layers within a composite find it on the
        # tensor.
        if call.is_composite and any(getattr(tensor, "_keras_mask", None) is not None for tensor in call.tensors):
            return replace(origin, names=None)
        return origin

    def of(self, tensors: Iterable[Tensor]) -> Origin:
        """The joint origin of tensors; unknown as soon as one of them is."""
        names: frozenset[str] = frozenset()
        seconds = 0.0
        is_known = True
        for tensor in tensors:
            origin = self._of.get(tensor) or (self._of_cast(tensor) if self._finds_casts else None)
            if origin is None or origin.names is None:
                is_known = False
            else:
                names |= origin.names
            seconds += origin.seconds if origin is not None else 0.0
        return Origin(names if is_known and names else None, seconds)

    def _of_cast(self, tensor: Tensor) -> Origin | None:
        """The origin of a tensor that was cast from a known one before a layer's `call`, as mixed precision does.

        A new object with other bits: found again by comparing the values of the whole batch. Constant values
        prove nothing, so they stay unknown.
        """
        kind = keras.backend.standardize_dtype(tensor.dtype)
        if kind in ("bool", "string") or self._graph is not None:
            return None
        for output in self._outputs:
            is_alike = _without_ones(output.tensor.shape) == _without_ones(tensor.shape)
            is_same_type = output.tensor.dtype == tensor.dtype and output.tensor.shape == tensor.shape
            # Many activations are one when they are cut to integers; only the input is cast so.
            is_cut = "int" in kind and output.role != "input"
            if not is_alike or is_same_type or is_cut:
                continue
            given = to_numpy(tensor)
            if not given.size or (given == given.flat[0]).all():
                return None
            if _casts_to(output.values(), given):
                origin = Origin(frozenset({output.names[0]}))
                self._of[tensor] = origin
                return origin
        return None


def _casts_to(values: np.ndarray, given: np.ndarray) -> bool:
    if values.dtype.kind in "OSU":
        return False
    with np.errstate(all="ignore"):
        cast = values.reshape(given.shape).astype(given.dtype)
    return np.array_equal(cast, given, equal_nan=given.dtype.kind == "f")


def _without_ones(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
