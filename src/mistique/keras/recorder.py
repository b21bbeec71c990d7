"""The visitor that keeps what the layers of one batch gave: names, values, parents and seconds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from time import perf_counter
from typing import Any

import keras
import numpy as np

from mistique.errors import CaptureError
from mistique.keras.derivations import derivation_of_call
from mistique.keras.forward import (
    ByTensor,
    Call,
    StopPass,
    Tensor,
    as_view,
    forward,
    graph_of,
    is_of_pass,
    named_leaves,
    to_numpy,
)
from mistique.keras.provenance import Made, made_by, made_by_cast
from mistique.schema import INPUT, PREDICTION, TARGET


@dataclass(eq=False)
class Output:
    """What one call gave, or one of the several tensors that it gave.

    Parameters
    ----------
    names : list of str
        All that it answers to; the first is what it is filed under.
    role : {"input", "stage", "prediction"}
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
class Recording:
    """The outputs of one batch, and the names of those that have no row for each row of the input."""

    outputs: list[Output]
    without_rows: list[str]


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a tensor came from.

    The outputs that it was computed from, None when that is not known; and the seconds of layers since then
    that are not recorded themselves.
    """

    names: frozenset[str] | None
    seconds: float = 0.0
    made: Made | None = None


@dataclass(frozen=True, slots=True)
class _Open:
    """An active call."""

    origin: _Origin
    started: float
    first_output: int


def record_batch(
    model: keras.Model,
    inputs: Any,
    *,
    wanted: Collection[str] | None = None,
    finds_casts: bool = True,
    isolate: Callable[[Tensor], Tensor] | None = None,
) -> Recording:
    """The input and the output of every layer of one forward pass, in the order in which they were computed.

    Parameters
    ----------
    model : keras.Model
    inputs : structure of tensors, each of shape (n_rows, ...)
    wanted : collection of str, optional
        Names of the outputs to keep beside the input. Layers after the last of them are not computed. None:
        all.
    finds_casts : bool
        Look for the origin of tensors that were cast on their way from one layer to the next. The parents
        that this finds are the same for each batch, so one batch needs it.

    Raises
    ------
    CaptureError
        A name in `wanted` is no output of the model; the nearest are named.

    Notes
    -----
    The tensors of one batch are all held until the caller lets them go: memory is that of one batch's
    outputs.
    """
    recorder = _Recorder(inputs, wanted, finds_casts, isolate)
    outputs = forward(model, inputs, recorder)
    if outputs is not None:
        recorder.predict(model, outputs)
    recorder.check_wanted()
    # The prediction last, wherever it was computed: position -1 of a model's intermediates.
    outputs_in_order = sorted(recorder.outputs, key=lambda output: output.role == PREDICTION)
    return Recording(outputs_in_order, recorder.without_rows)


class _Recorder:
    """A `Visitor` that keeps the outputs."""

    def __init__(
        self,
        inputs: Any,
        wanted: Collection[str] | None,
        finds_casts: bool,
        isolate: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.outputs: list[Output] = []
        self.without_rows: list[str] = []
        self._wanted = None if wanted is None else set(wanted)
        self._missing = set() if wanted is None else {n for n in wanted if n.split("/")[0] not in (INPUT, TARGET)}
        self._finds_casts = finds_casts
        self._isolate = isolate
        self._graph = graph_of(inputs)
        self._seen: list[str] = []
        # Weakly: tensors that are not recorded are let go as soon as the model lets them go.
        self._origins: ByTensor[_Origin] = ByTensor()
        self._open: list[_Open] = []
        leaves = named_leaves(INPUT, inputs)
        self._n_rows = leaves[0][1].shape[0]
        for name, tensor in leaves:
            made = Made(None, name, ())
            self.outputs.append(Output([name], "input", tensor, "", frozenset(), 0.0, made))
            self._origins[tensor] = _Origin(frozenset({name}), made=made)

    def enter(self, call: Call) -> None:
        # Here, not when the last wanted call ends: had it been the model's last, the pass would have ended by
        # itself, and its output would be known to be the prediction.
        if self._wanted is not None and not self._missing:
            raise StopPass
        self._open.append(_Open(self._origin_of_call(call), perf_counter(), len(self.outputs)))

    def leave(self, call: Call, outputs: Any) -> Any:
        opened = self._open.pop()
        seconds = opened.origin.seconds + perf_counter() - opened.started
        outputs = self._with_own_identity(call, outputs)
        bases = (call.path, *call.aliases)
        for name, tensor in named_leaves(call.path, outputs):
            names = [base + name.removeprefix(call.path) for base in bases]
            self._note((*names, *bases))
            filed = self._filed_since(opened.first_output, tensor)
            if filed is not None:
                filed.names += names
            elif keras.ops.is_tensor(tensor) and is_of_pass(tensor, self._graph):
                # Layers within may tell more closely where it comes from than the arguments of the call do.
                inner = self._origins.get(tensor)
                made = inner.made if inner is not None else None
                if made is None:
                    made = made_by(call, name.removeprefix(call.path), self._made)
                has_inner = inner is not None and inner.names is not None
                origin = replace(inner if inner is not None and has_inner else opened.origin, made=made)
                if not has_inner:
                    origin = replace(origin, seconds=seconds)
                self._file(names, bases, tensor, type(call.layer).__name__, origin)
                if self.outputs and self.outputs[-1].tensor is tensor:
                    self.outputs[-1].derivation = derivation_of_call(call, tensor, self.outputs[:-1])
        return outputs

    def predict(self, model: keras.Model, outputs: Any) -> None:
        """File what the model gave: a layer's output under a better name, or an output of its own."""
        renamed: dict[str, Output] = {}
        for name, tensor in named_leaves(PREDICTION, outputs):
            self._note((name, PREDICTION))
            stages = (o for o in self.outputs if o.role == "stage" and o not in renamed.values())
            found = next((o for o in stages if o.tensor is tensor), None)
            if found is not None:
                renamed[name] = found
            elif self._is_wanted((name, PREDICTION)):
                origin = self._origin_of((tensor,))
                detail = type(model).__name__
                made = self._made(tensor)
                self.outputs.append(Output([name], PREDICTION, tensor, detail, origin.names, origin.seconds, made))
        for name, output in renamed.items():
            self._rename(output, name)

    def check_wanted(self) -> None:
        """Raise if something that was asked for did not come."""
        if self._missing:
            name = min(self._missing)
            known = list(dict.fromkeys(self._seen))
            nearest = get_close_matches(name, known, n=3, cutoff=0.4) or known[:6]
            raise CaptureError(f"layers: the model has no layer {name!r}; nearest: {', '.join(nearest)}")

    def _file(self, names: list[str], bases: Iterable[str], tensor: Tensor, detail: str, origin: _Origin) -> None:
        # A position table or a loss is a layer's output too, but has no row for each row of the input.
        has_rows = len(tensor.shape) > 0 and tensor.shape[0] == self._n_rows
        is_wanted = self._is_wanted((*names, *bases))
        if is_wanted and not has_rows:
            self.without_rows.append(names[0])
        if is_wanted and has_rows:
            self.outputs.append(Output(names, "stage", tensor, detail, origin.names, origin.seconds, origin.made))
            origin = _Origin(frozenset({names[0]}), made=origin.made)
        self._origins[tensor] = origin

    def _filed_since(self, first_output: int, tensor: Tensor) -> Output | None:
        """The output of a layer within a call, if the call hands on just that: one output with two names."""
        return next((o for o in self.outputs[first_output:] if o.tensor is tensor), None)

    def _rename(self, output: Output, name: str) -> None:
        before = output.names[0]
        output.names.insert(0, name)
        output.role = PREDICTION
        for other in self.outputs:
            if other.parents is not None and before in other.parents:
                other.parents = other.parents - {before} | {name}

    def _with_own_identity(self, call: Call, outputs: Any) -> Any:
        """The outputs, each a tensor of its own, so that identity tells which layer gave it.

        Dropout hands its input on as it is, and an LSTM gives its last output a second time as a state.
        """
        handed: set[int] = set()
        isolate = keras.ops.copy if self._isolate is None else self._isolate

        def own(tensor: Any) -> Any:
            if not keras.ops.is_tensor(tensor):
                return tensor
            is_argument = any(tensor is argument for argument in call.tensors)
            is_known = self._origins.get(tensor) is not None
            is_of_another = is_known and not call.is_composite
            is_open = self._isolate is not None and not is_known
            if is_argument or is_of_another or is_open or id(tensor) in handed:
                mask = getattr(tensor, "_keras_mask", None)
                tensor = isolate(tensor)
                if mask is not None:
                    tensor._keras_mask = mask
            handed.add(id(tensor))
            return tensor

        return keras.tree.map_structure(own, outputs)

    def _is_wanted(self, names: Iterable[str]) -> bool:
        return self._wanted is None or not self._wanted.isdisjoint(names)

    def _note(self, names: Iterable[str]) -> None:
        names = list(names)
        self._seen += names
        self._missing.difference_update(names)

    def _made(self, tensor: Tensor) -> Made | None:
        origin = self._origins.get(tensor)
        return origin.made if origin is not None else made_by_cast(tensor, self._made)

    def _origin_of_call(self, call: Call) -> _Origin:
        origin = self._origin_of(call.tensors)
        # A layer that takes a mask has it among its arguments; layers within a composite find it on the
        # tensor.
        if call.is_composite and any(getattr(tensor, "_keras_mask", None) is not None for tensor in call.tensors):
            return replace(origin, names=None)
        return origin

    def _origin_of(self, tensors: Iterable[Tensor]) -> _Origin:
        """The joint origin of a call's arguments; unknown as soon as one of them is."""
        names: frozenset[str] = frozenset()
        seconds = 0.0
        is_known = True
        for tensor in tensors:
            origin = self._origins.get(tensor) or (self._cast_origin(tensor) if self._finds_casts else None)
            if origin is None or origin.names is None:
                is_known = False
            else:
                names |= origin.names
            seconds += origin.seconds if origin is not None else 0.0
        return _Origin(names if is_known and names else None, seconds)

    def _cast_origin(self, tensor: Tensor) -> _Origin | None:
        """The origin of a tensor that was cast from a known one before a layer's `call`, as mixed precision does.

        A new object with other bits: found again by comparing the values of the whole batch. Constant values
        prove nothing, so they stay unknown.
        """
        kind = keras.backend.standardize_dtype(tensor.dtype)
        if kind in ("bool", "string") or self._graph is not None:
            return None
        for output in self.outputs:
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
                origin = _Origin(frozenset({output.names[0]}))
                self._origins[tensor] = origin
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
