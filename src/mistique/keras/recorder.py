"""The visitor that keeps what the layers of one batch gave: names, values, parents and seconds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import keras

from mistique.keras.choice import Choice
from mistique.keras.derivations import derivation_of_call
from mistique.keras.forward import Call, StopPass, forward
from mistique.keras.origins import Origin, Origins, Output
from mistique.keras.provenance import Made, made_by
from mistique.keras.tensors import Tensor, graph_of, is_of_pass, named_leaves
from mistique.schema import INPUT, PREDICTION

MASK = "mask"


@dataclass(frozen=True, slots=True)
class Recording:
    """What one batch gave.

    Parameters
    ----------
    outputs : list of Output
    without_rows : list of str
        Names of those left out, as they have no row for each row of the input.
    prediction : structure of tensors, optional
        As the model gave it. None: the pass ended before.
    """

    outputs: list[Output]
    without_rows: list[str]
    prediction: Any = None


@dataclass(frozen=True, slots=True)
class _Open:
    """An active call."""

    origin: Origin
    started: float
    first_output: int


def record_batch(
    model: keras.Model,
    inputs: Any,
    *,
    wanted: Choice | Collection[str] | None = None,
    finds_casts: bool = True,
    isolate: Callable[[Tensor], Tensor] | None = None,
) -> Recording:
    """The input and the output of every layer of one forward pass, in the order in which they were computed.

    Parameters
    ----------
    model : keras.Model
    inputs : structure of tensors, each of shape (n_rows, ...)
    wanted : Choice or collection of str, optional
        The outputs to keep beside the input. Layers after the last of those that are named are not computed. None:
        all.
    finds_casts : bool
        Look for the origin of tensors that were cast on their way from one layer to the next. The parents
        that this finds are the same for each batch, so one batch needs it.

    Raises
    ------
    CaptureError
        Something in `wanted` is no output of the model; the nearest are named.

    Notes
    -----
    The tensors of one batch are all held until the caller lets them go: memory is that of one batch's
    outputs.
    """
    choice = wanted if isinstance(wanted, Choice) else Choice(wanted)
    recorder = _Recorder(inputs, choice, finds_casts, isolate)
    outputs = forward(model, inputs, recorder)
    if outputs is not None:
        recorder.predict(model, outputs)
    recorder.check_wanted()
    recorder.file_masks()
    # The prediction last, wherever it was computed: position -1 of a model's intermediates.
    outputs_in_order = sorted(recorder.outputs, key=lambda output: output.role == PREDICTION)
    return Recording(outputs_in_order, recorder.without_rows, outputs)


class _Recorder:
    """A `Visitor` that keeps the outputs."""

    def __init__(
        self,
        inputs: Any,
        wanted: Choice,
        finds_casts: bool,
        isolate: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.outputs: list[Output] = []
        self.without_rows: list[str] = []
        self._wanted, self._missing = wanted, wanted.missing()
        self._isolate = isolate
        self._graph = graph_of(inputs)
        self._seen: list[str] = []
        self._origins = Origins(self.outputs, self._graph, finds_casts=finds_casts)
        self._open: list[_Open] = []
        leaves = named_leaves(INPUT, inputs)
        self._n_rows = leaves[0][1].shape[0]
        for name, tensor in leaves:
            made = Made(None, name, ())
            self.outputs.append(Output([name], "input", tensor, "", frozenset(), 0.0, made))
            self._origins[tensor] = Origin(frozenset({name}), made=made)

    def enter(self, call: Call) -> None:
        # Here, not when the last wanted call ends: had it been the model's last, the pass would have ended by
        # itself, and its output would be known to be the prediction.
        if self._wanted.is_exact and not self._missing:
            raise StopPass
        self._open.append(_Open(self._origins.of_call(call), perf_counter(), len(self.outputs)))

    def leave(self, call: Call, outputs: Any) -> Any:
        opened = self._open.pop()
        seconds = opened.origin.seconds + perf_counter() - opened.started
        outputs = self._with_own_identity(call, outputs)
        bases = (call.path, *call.aliases)
        for name, tensor in named_leaves(call.path, outputs):
            names = [base + name.removeprefix(call.path) for base in bases]
            self._note((*names, *bases), call.layer)
            filed = self._filed_since(opened.first_output, tensor)
            if filed is not None:
                filed.names += names
            elif keras.ops.is_tensor(tensor) and is_of_pass(tensor, self._graph):
                # Layers within may tell more closely where it comes from than the arguments of the call do.
                inner = self._origins.get(tensor)
                made = inner.made if inner is not None else None
                if made is None:
                    made = made_by(call, name.removeprefix(call.path), self._origins.made)
                has_inner = inner is not None and inner.names is not None
                origin = replace(inner if inner is not None and has_inner else opened.origin, made=made)
                if not has_inner:
                    origin = replace(origin, seconds=seconds)
                self._file(names, bases, tensor, call.layer, origin)
                if self.outputs and self.outputs[-1].tensor is tensor:
                    self.outputs[-1].derivation = derivation_of_call(call, tensor, self.outputs[:-1])
        return outputs

    def predict(self, model: keras.Model, outputs: Any) -> None:
        """File what the model gave: a layer's output under a better name, or an output of its own."""
        renamed: dict[str, Output] = {}
        for name, tensor in named_leaves(PREDICTION, outputs):
            self._note((name, PREDICTION), None)
            stages = (o for o in self.outputs if o.role == "stage" and o not in renamed.values())
            found = next((o for o in stages if o.tensor is tensor), None)
            if found is not None:
                renamed[name] = found
            elif self._wanted.has((name, PREDICTION), None):
                origin = self._origins.of((tensor,))
                detail = type(model).__name__
                made = self._origins.made(tensor)
                self.outputs.append(Output([name], PREDICTION, tensor, detail, origin.names, origin.seconds, made))
        for name, output in renamed.items():
            self._rename(output, name)

    def check_wanted(self) -> None:
        """Raise if something that was asked for did not come."""
        self._missing.check(self._seen)

    def file_masks(self) -> None:
        """File the masks that Keras set on the outputs once their calls were over: a mask that is handed on, once."""
        filed: dict[int, Output] = {}
        known = {name for output in self.outputs for name in output.names}
        for output in list(self.outputs):
            mask = getattr(output.tensor, "_keras_mask", None)
            names = [f"{name}/mask" for name in output.names if f"{name}/mask" not in known]
            if mask is None or not names or mask.shape[:1] != (self._n_rows,):
                continue
            if id(mask) in filed:
                filed[id(mask)].names += names
            else:
                filed[id(mask)] = Output(names, MASK, mask, "", None, 0.0)
                self.outputs.append(filed[id(mask)])

    def _note(self, names: Iterable[str], layer: Any) -> None:
        self._seen += names
        self._missing.note(list(names), layer)

    def _file(self, names: list[str], bases: Iterable[str], tensor: Tensor, layer: Any, origin: Origin) -> None:
        # A position table or a loss is a layer's output too, but has no row for each row of the input.
        has_rows = len(tensor.shape) > 0 and tensor.shape[0] == self._n_rows
        is_wanted = self._wanted.has((*names, *bases), layer)
        if is_wanted and not has_rows:
            self.without_rows.append(names[0])
        if is_wanted and has_rows:
            detail = type(layer).__name__
            self.outputs.append(Output(names, "stage", tensor, detail, origin.names, origin.seconds, origin.made))
            origin = Origin(frozenset({names[0]}), made=origin.made)
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
