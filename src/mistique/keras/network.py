"""A network as it is captured: what its layers give, told by a sample, and the pass that gives it batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter
from typing import Any

import keras
import numpy as np

from mistique.errors import MistiqueError, ModelMismatchError
from mistique.keras.batches import Batch
from mistique.keras.choice import Choice, Layers
from mistique.keras.derivations import confirmed_derivations
from mistique.keras.inputs import check_inputs, described, said
from mistique.keras.lineage import Lineages, fingerprint, is_open_code
from mistique.keras.origins import Output
from mistique.keras.recorder import MASK, Recording, record_batch
from mistique.keras.tensors import as_tensors, as_view, named_leaves
from mistique.keras.tracing import EAGER, GRAPH, Traced, can_trace, isolate
from mistique.keras.unchanged import Inference, unchanged_state
from mistique.schema import INPUT, PREDICTION

# What a model may raise when it is traced: anything that its code and TensorFlow raise.
_UNTRACEABLE = (
    *(ValueError, TypeError, NotImplementedError, AttributeError, KeyError, IndexError),
    *(RuntimeError, AssertionError, OSError, ArithmeticError, MistiqueError),
)
# Of the largest value; a whole batch and an eighth of one are computed in other geometries.
_TOLERANCE = 0.02
# By layers; a mask comes with the output that carries it.
_COMPUTED = ("stage", PREDICTION)


@dataclass(eq=False)
class Network:
    """How one network runs over batches of one geometry.

    A batch of full size runs as a graph, if the network can be traced and then gives what it gives eagerly;
    everything else runs eagerly. So the pass of a row follows from `kind` and the batch geometry, and
    recomputing takes the same.

    Parameters
    ----------
    net : keras.Model
    model : str
        Its name in keys, for messages.
    layers : as `Choice` takes it, optional
        The outputs wanted. None: all.
    """

    net: keras.Model
    model: str
    layers: Layers | None = None
    kind: str = field(default=EAGER, init=False)
    outputs: list[Output] = field(default_factory=list, init=False)
    without_rows: list[str] = field(default_factory=list, init=False)
    inference: Inference = field(default_factory=Inference, init=False)
    seconds_per_row: dict[str, float] = field(default_factory=dict, init=False)
    trace_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.kind, self.inference, self.trace_seconds = EAGER, Inference(), 0.0
        self._wanted = Choice(self.layers)
        self._geometry: Any = None
        self._fingerprint: str | None = None
        self._traces: dict[frozenset[str], Traced] = {}
        self._waiting: tuple[Batch, Mapping[str, np.ndarray]] | None = None
        self._sampled: dict[str, float] = {}
        self._graph_seconds: list[float] = []
        self._eager_seconds: dict[str, list[float]] = defaultdict(list)

    def prepare(self, batch: Batch, batch_rows: int) -> None:
        """Learn from the first batch what the layers give, unless that is known from an earlier capture.

        Raises
        ------
        CaptureError, ModelMismatchError
        """
        check_inputs(self.net, batch.inputs, model=self.model)
        shapes = [(leaf.shape, leaf.dtype) for leaf in keras.tree.flatten(batch.inputs)]
        # Of the variables too: a graph goes on reading those that it was traced with.
        geometry = batch_rows, shapes, self._variables()
        seen = fingerprint(self.net) if self._fingerprint is not None else None
        if seen is not None and (seen, geometry) == (self._fingerprint, self._geometry):
            return
        self._forget()
        self._learn(batch, batch_rows)
        # Once more: what was not built before is now.
        self._geometry, self._fingerprint = (batch_rows, shapes, self._variables()), fingerprint(self.net)

    def run(self, batch: Batch, names: Collection[str]) -> Mapping[str, np.ndarray]:
        """What those outputs hold for a batch, inputs not among them.

        Raises
        ------
        ModelMismatchError
        """
        if self._waiting is not None and self._waiting[0] is batch:
            values, self._waiting = self._waiting[1], None
            return values
        if self.kind == GRAPH and batch.n_rows == self._geometry[0]:
            started = perf_counter()
            values = self._run_graph(batch.inputs, names)
            self._graph_seconds.append((perf_counter() - started) / batch.n_rows)
            return values
        recording = self._record(batch.inputs, wanted=self._carriers(names), finds_casts=False)
        return self._values_of(recording, batch.n_rows)

    def release(self) -> None:
        """Let go of a batch that nobody asked for."""
        self._waiting = None

    def measure(self) -> None:
        """Settle the layers' seconds: the median of eager batches, or a sample's scaled to what the graph took."""
        if self.kind == EAGER:
            # A first batch builds and warms up what the others find ready.
            self.seconds_per_row |= {name: median(seconds) for name, seconds in self._eager_seconds.items()}
        total = sum(self._sampled.values())
        if self.kind == GRAPH and self._graph_seconds and total > 0:
            factor = median(self._graph_seconds) / total
            self.seconds_per_row = {name: seconds * factor for name, seconds in self._sampled.items()}
            self._sampled = {}

    def lineages(self, content: Mapping[str, str]) -> Lineages:
        """Lineages of the outputs, given digests of the inputs; of none, if the layers alone do not tell the values."""
        inference = self.inference
        # What is drawn from a generator that is everybody's is told by nothing; nor are states.
        is_told = not (inference.drew_unseeded or inference.drew_in_python or inference.moved_states)
        own = [layer for layer in self.net._flatten_layers() if is_open_code(layer)]
        # What the user's code does between layers is read from a graph; eagerly it may be other things by turns.
        is_told = is_told and (not own or self.kind == GRAPH)
        codes = [fingerprint(layer) for layer in own]
        is_told = is_told and None not in codes
        return Lineages(
            content if is_told else {},
            batch_rows=self._geometry[0],
            kind=self.kind,
            codes=[code for code in codes if code is not None],
            changed=inference.changed,
        )

    def _carriers(self, names: Collection[str]) -> list[str]:
        """The outputs of layers to ask a pass for: those, and the ones that carry their masks."""
        masks = {output.names[0] for output in self.outputs if output.role == MASK}
        return list(dict.fromkeys(name.removesuffix(f"/{MASK}") if name in masks else name for name in names))

    def _values_of(self, recording: Recording, n_rows: int) -> dict[str, np.ndarray]:
        outputs = [output for output in recording.outputs if output.role != "input"]
        for output in outputs:
            self._eager_seconds[output.names[0]].append(output.seconds / n_rows)
        return {output.names[0]: output.values() for output in outputs}

    def _variables(self) -> list[int]:
        return [id(weight) for weight in self.net.weights]

    def _learn(self, batch: Batch, batch_rows: int) -> None:
        is_traceable = batch.n_rows == batch_rows and can_trace(self.net, batch.inputs)
        n_sample = batch.n_rows // 8 if is_traceable and _is_any_length(self.net) else 0
        recording = self._sample(batch.inputs, n_sample) if n_sample else None
        if recording is None:
            n_sample = batch.n_rows
            recording = self._record(batch.inputs, wanted=self._wanted)
        values = self._values_of(recording, n_sample)
        self._sampled = {name: seconds[0] for name, seconds in self._eager_seconds.items()}
        self.seconds_per_row = dict(self._sampled)
        self._take_layout(recording, batch.inputs)
        if is_traceable and not self.inference.drew_unseeded and self._trace(batch, recording, values, n_sample):
            self.kind = GRAPH
        elif n_sample == batch.n_rows:
            self._waiting = batch, values

    def _take_layout(self, recording: Recording, inputs: Any) -> None:
        if not self._wanted.is_all:
            # Names from now on: the passes to come end with the last of them.
            self._wanted = Choice([output.names[0] for output in recording.outputs if output.role in _COMPUTED])
        self.without_rows = recording.without_rows
        # The layout outlives the batch; its values must not.
        rules = confirmed_derivations(recording.outputs)
        # As they are given: a backend may cast them, JAX doubles to float32.
        given = {name: leaf.dtype for name, leaf in named_leaves(INPUT, inputs)}
        self.outputs = []
        for output in recording.outputs:
            name = output.names[0]
            dtype = given[name] if output.role == "input" else output.values().dtype
            layout = np.empty((0, *output.tensor.shape[1:]), dtype)
            self.outputs.append(replace(output, tensor=layout, derivation=rules.get(name)))

    def _sample(self, inputs: Any, n_rows: int) -> Recording | None:
        """Some rows, run twice: the first run builds and warms up what the second finds ready."""
        few = keras.tree.map_structure(lambda leaf: leaf[:n_rows], inputs)
        try:
            self._record(few, wanted=self._wanted, finds_casts=False)
            return self._record(few, wanted=self._wanted)
        except ModelMismatchError:
            return None  # of a fixed batch size, or wrong altogether: the whole batch will say

    def _trace(self, batch: Batch, sample: Recording, values: Mapping[str, np.ndarray], n_sample: int) -> bool:
        """Whether the network can be traced, and the graph gives what the eager pass gave."""
        started = perf_counter()
        names = frozenset(values)
        try:
            with unchanged_state(self.net):
                traced, recording = self._traced(batch.inputs, names)
            self._traces[names] = traced
            self.trace_seconds = perf_counter() - started
            if [_facts(o) for o in recording.outputs] != [_facts(o) for o in sample.outputs]:
                return False
            found = self._run_graph(batch.inputs, names)
        except _UNTRACEABLE:
            return False
        if not all(_is_near(found[name][:n_sample], eager) for name, eager in values.items()):
            return False
        for output, of_graph in zip(self.outputs, recording.outputs, strict=True):
            # A graph tells which tensor a layer's argument was cast from, which an eager pass does not.
            output.made = of_graph.made
        self._waiting = batch, found
        return True

    def _traced(self, inputs: Any, names: frozenset[str]) -> tuple[Traced, Recording]:
        recordings = []

        def function(tensors: Any) -> list[Any]:
            recordings.append(record_batch(self.net, tensors, wanted=self._wanted, isolate=isolate))
            return [output.tensor for output in recordings[0].outputs if output.names[0] in names]

        return Traced(function, inputs), recordings[0]

    def _run_graph(self, inputs: Any, names: Collection[str]) -> Mapping[str, np.ndarray]:
        wanted = frozenset(names)
        if wanted not in self._traces:
            with unchanged_state(self.net):
                # The last one and all are kept: epochs ask for the same again.
                self._traces = {**dict(list(self._traces.items())[:1]), wanted: self._traced(inputs, wanted)[0]}
        traced = self._traces[wanted]
        if traced.may_write:
            with unchanged_state(self.net):
                tensors = traced(inputs)
        else:
            tensors = traced(inputs)
        in_order = [output.names[0] for output in self.outputs if output.names[0] in wanted]
        return {name: as_view(tensor) for name, tensor in zip(in_order, tensors, strict=True)}

    def _record(self, inputs: Any, *, wanted: Choice | Collection[str], finds_casts: bool = True) -> Recording:
        try:
            with unchanged_state(self.net) as inference:
                recording = record_batch(self.net, as_tensors(inputs), wanted=wanted, finds_casts=finds_casts)
        except MistiqueError:
            raise
        except (ValueError, TypeError) as error:
            raise ModelMismatchError(
                model=self.model,
                expected="rows that its layers can compute",
                got=described(inputs),
                hint=said(error),
            ) from error
        self.inference.add(inference)
        return recording


def _is_any_length(net: keras.Model) -> bool:
    inputs = getattr(net, "inputs", None) or ()
    return all(tensor.shape[0] is None for tensor in inputs)


def _facts(output: Output) -> tuple[Any, ...]:
    dtype = keras.backend.standardize_dtype(output.tensor.dtype)
    return output.names, output.role, output.detail, tuple(output.tensor.shape[1:]), dtype


def _is_near(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.dtype.kind not in "fV":
        return True
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True)
