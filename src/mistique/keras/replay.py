"""The visitor that computes one intermediate from stored ones, and as little else as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import keras
import numpy as np

from mistique.errors import ModelMismatchError
from mistique.keras.forward import Call, StopPass, forward
from mistique.keras.tensors import ByTensor, Tensor, as_tensors, named_leaves
from mistique.schema import INPUT, PREDICTION, Intermediate


@dataclass(eq=False)
class Route:
    """What computing a target from sources takes.

    Parameters
    ----------
    target : str
    sources : frozenset of str
    intermediates : mapping of name to Intermediate
    """

    target: str
    sources: frozenset[str]
    intermediates: Mapping[str, Intermediate]
    needed: frozenset[str] | None = field(init=False)
    records: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.records = {}
        for name, intermediate in self.intermediates.items():
            self.records.update(dict.fromkeys((name, *intermediate.aliases), name))
        self.needed = self._ancestors()

    def _ancestors(self) -> frozenset[str] | None:
        """The target and what it is computed from, up to the sources; None, where that is not known: all."""
        waiting, found = [self.target], set[str]()
        while waiting:
            name = waiting.pop()
            if name in found or name in self.sources:
                continue
            found.add(name)
            parents = self.intermediates[name].parents if name in self.intermediates else None
            if parents is None:
                return None
            waiting += parents
        return frozenset(found)

    def record_of(self, call: Call, leaf: str = "") -> str | None:
        """The intermediate that a call, or one of its several outputs (``/0``), was filed as."""
        names = (self.records.get(path + leaf) for path in (call.path, *call.aliases))
        return next((name for name in names if name is not None), None)

    def leads_into(self, call: Call) -> bool:
        """The target, a source, or something needed lies within a call."""
        inside = call.path + "/"
        wanted = {self.target, *self.sources, *(self.needed or self.intermediates)}
        return any(path.startswith(inside) for path, name in self.records.items() if name in wanted)


def replay_batch(
    model: keras.Model,
    route: Route,
    values: Mapping[str, Any],
    *,
    seconds: dict[str, float],
    isolate: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The target for one batch of its sources; adds to `seconds` what each layer that ran took.

    Parameters
    ----------
    model : keras.Model
    route : Route
    values : mapping of name to array or tensor
        Of a graph, if the pass is traced into that graph.
    seconds : dict of name to float
    isolate : callable, optional
        As `record_batch` takes it, for the same bits.

    Raises
    ------
    ModelMismatchError
        The model does not come to the target, or the sources do not cut it off from an input that is not
        given.
    """
    n_rows = next(iter(values.values())).shape[0]
    replay = _Replay(route, {name: as_tensors(array) for name, array in values.items()}, n_rows, seconds, isolate)
    outputs = forward(model, replay.inputs(), replay)
    if replay.found is None and outputs is not None:
        replay.found = dict(named_leaves(PREDICTION, outputs)).get(route.target)
    if not replay.is_cut_off:
        raise ModelMismatchError(
            model=model.name,
            expected=f"sources that {route.target!r} is computed from alone",
            got=", ".join(sorted(route.sources)),
            hint="Recompute it from the input",
        )
    if replay.found is None:
        raise ModelMismatchError(
            model=model.name,
            expected=f"layer {route.target!r}, as captured",
            got="a pass that does not come to it",
            hint="The code of the model may have changed since; capture it again",
        )
    return replay.found


class _Replay:
    """A `Visitor` that gives sources for what their layers would compute, and zeros for what nobody needs."""

    def __init__(
        self,
        route: Route,
        sources: Mapping[str, Tensor],
        n_rows: int,
        seconds: dict[str, float],
        isolate: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.found: Tensor | None = None
        self.is_cut_off = True
        self._route, self._sources, self._n_rows, self._seconds = route, sources, n_rows, seconds
        self._isolate = isolate
        self._is_isolated: ByTensor[bool] = ByTensor()
        self._is_placeholder: ByTensor[bool] = ByTensor()
        self._replaced: list[bool] = []
        self._started: list[float] = []

    def inputs(self) -> Any:
        """The model's input: given, or zeros that nothing needed is computed from."""
        names = [name for name, i in self._route.intermediates.items() if i.role == "input"]
        leaves = {}
        for name in names:
            given = self._sources.get(name)
            leaves[name] = self._placeholder(name) if given is None else given
        return structure_of(INPUT, leaves)

    def enter(self, call: Call) -> Any | None:
        answer = self._answer(call)
        self._replaced.append(answer is not None)
        self._started.append(perf_counter())
        return answer

    def leave(self, call: Call, outputs: Any) -> Any:
        seconds = perf_counter() - self._started.pop()
        is_replaced = self._replaced.pop()
        route = self._route
        if is_replaced:
            return outputs
        outputs = keras.tree.map_structure(self._isolated, outputs)
        leaves = named_leaves(call.path, outputs)
        suffixes = [name.removeprefix(call.path) for name, _ in leaves]
        records = [route.record_of(call, suffix) for suffix in suffixes]
        is_tainted = any(map(self._is_placeholder.get, call.tensors))
        if not call.is_composite:
            name = next((record for record in records if record is not None), route.target)
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        if route.target in records:
            # Not raised here: Keras would rebuild it as an error of the layer.
            self.is_cut_off = not is_tainted or call.is_composite
            self.found = leaves[records.index(route.target)][1]
            raise StopPass
        if any(record in self._sources for record in records):
            flat = iter(records)
            return keras.tree.map_structure(lambda leaf: self._sources.get(next(flat) or "", leaf), outputs)
        if is_tainted and not call.is_composite:
            for _, tensor in leaves:
                self._is_placeholder[tensor] = True
        return outputs

    def _isolated(self, tensor: Any) -> Any:
        """An output as the capture handed it on; what a layer within a composite gave is that already."""
        if self._isolate is None or not keras.ops.is_tensor(tensor) or self._is_isolated.get(tensor):
            return tensor
        mask = getattr(tensor, "_keras_mask", None)
        tensor = self._isolate(tensor)
        if mask is not None:
            tensor._keras_mask = mask
        self._is_isolated[tensor] = True
        return tensor

    def _answer(self, call: Call) -> Any | None:
        route = self._route
        record = route.record_of(call)
        if call.is_composite and route.leads_into(call) and record not in self._sources:
            return None
        if record is None or record == route.target:
            return None
        if record in self._sources:
            return self._sources[record]
        is_needed = route.needed is None or record in route.needed
        is_tainted = any(map(self._is_placeholder.get, call.tensors))
        return None if is_needed and not is_tainted else self._placeholder(record)

    def _placeholder(self, name: str) -> Tensor:
        """Zeros in the shape of an intermediate: cheaper than computing it, and any layer takes them."""
        intermediate = self._route.intermediates[name]
        shape, dtype = (self._n_rows, *intermediate.shape), intermediate.types[0].dtype
        if dtype == "str":
            tensor = as_tensors(np.full(shape, ""))
        else:
            # In the type that the backend makes of such values: JAX has no doubles unless asked.
            tensor = keras.ops.zeros(shape, dtype=as_tensors(np.zeros(0, dtype)).dtype)
        self._is_placeholder[tensor] = True
        return tensor


def structure_of(name: str, leaves: Mapping[str, Any]) -> Any:
    """The inverse of `named_leaves`: one tensor, a list of ``input/0``, ..., or a dict of ``input/a``, ..."""
    if set(leaves) == {name}:
        return leaves[name]
    parts: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        part = path.removeprefix(f"{name}/").split("/")[0]
        parts.setdefault(part, {})[path] = leaf
    inner = {part: structure_of(f"{name}/{part}", of_part) for part, of_part in parts.items()}
    if all(part.isdigit() for part in inner):
        return [inner[part] for part in sorted(inner, key=int)]
    return {unquote(part): value for part, value in inner.items()}
