"""The hooked forward pass: the calls of a model's layers, one after the other, shown to a visitor.

``layer.call`` is wrapped on each layer *instance* while the model runs, eagerly or while TensorFlow traces it
(``tracing``), and put back afterwards. So one mechanism serves Sequential, functional, nested and subclassed
models, built or not, and all layers come from one pass. `keras.Model(inputs, [layer.output, ...])` lost: it
needs a built functional model, and gives a shared layer's first call only.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import keras

from mistique.keras.tensors import Tensor, graph_of, is_of_pass
from mistique.schema import RESERVED_NAMES, join_path


class StopPass(BaseException):
    """Unwinds a pass whose remaining layers nobody wants.

    A BaseException: Keras rebuilds every Exception that leaves a layer, and a model's own ``except
    Exception`` would swallow it.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of one layer or operation.

    Parameters
    ----------
    path : str
        Where it happened: the names of the active calls, ``inner/dense_1``; a second call of a path ends in
        ``:1``.
    aliases : tuple of str
        Other paths of the same call: a subclassed model's layer is filed under its attribute, and answers to
        its automatic name as well.
    layer : keras.Operation
    is_composite : bool
        Layers within it are visited too.
    tensors : tuple of tensor
        Those among its arguments, flat.
    arguments : tuple of tuple and dict
        All of them.
    """

    path: str
    aliases: tuple[str, ...]
    layer: Any
    is_composite: bool
    tensors: tuple[Tensor, ...]
    arguments: tuple[Any, Any]


class Visitor(Protocol):
    """Sees the calls of one pass. Raising `StopPass` ends the pass."""

    def enter(self, call: Call) -> Any | None:
        """What to answer instead of computing the call; None: compute it."""

    def leave(self, call: Call, outputs: Any) -> Any:
        """What to hand on as the outputs of the call."""


def forward(model: keras.Model, inputs: Any, visitor: Visitor) -> Any | None:
    """The model's outputs in inference mode, every call shown to a visitor; None when that stopped the pass.

    Parameters
    ----------
    model : keras.Model
    inputs : structure of tensors
        As the model's ``call`` takes them; of a graph, if the pass is traced into that graph.
    visitor : Visitor
    """
    with _Hooks(visitor, graph_of(inputs)).installed(model) as hooks:
        try:
            return model(inputs, training=False)
        except StopPass:
            return None
        finally:
            hooks.active.clear()


def children_of(layer: Any) -> tuple[Any, ...]:
    """The layers and operations that a layer calls, as far as they are shown.

    Keras' own layers are closed: an LSTM calls its cell once a time step, and TimeDistributed calls its layer
    while tracing. Models and the user's layers are open.
    """
    if isinstance(layer, keras.Model):
        inner = [*getattr(layer, "operations", ()), *layer.layers]
    elif isinstance(layer, keras.Layer) and not _is_closed(layer):
        inner = layer._flatten_layers(include_self=False, recursive=False)
    else:
        inner = []
    unique = {id(child): child for child in inner if not isinstance(child, keras.layers.InputLayer)}
    return tuple(unique.values())


def _is_closed(layer: keras.Layer) -> bool:
    module = getattr(type(layer).call, "__module__", None) or ""
    return isinstance(layer, keras.layers.RNN) or module.split(".")[0] == "keras"


class _Hooks:
    """The wrapped ``call`` attributes of one pass, and the stack of active calls."""

    def __init__(self, visitor: Visitor, graph: Any | None) -> None:
        self._visitor = visitor
        self._graph = graph
        self._restore: list[tuple[Any, str, Any]] = []
        self._hooked: set[int] = set()
        self._names: dict[tuple[int, int], tuple[str, str]] = {}
        self._n_calls: Counter[str] = Counter()
        self.active: list[tuple[Any, str]] = []

    @contextmanager
    def installed(self, model: keras.Model) -> Iterator[_Hooks]:
        self._hook(model, self._root_call)
        try:
            yield self
        finally:
            for layer, attribute, before in reversed(self._restore):
                # Not through setattr: Keras and TensorFlow track what is set on a layer.
                if before is None:
                    del layer.__dict__[attribute]
                else:
                    layer.__dict__[attribute] = before

    def _hook(self, layer: Any, handler: Callable[..., Any]) -> None:
        if id(layer) in self._hooked:
            return
        self._hooked.add(id(layer))
        is_quantized = getattr(layer, "quantization_mode", None) is not None
        attribute = "quantized_call" if is_quantized else "call"
        original = getattr(layer, attribute)

        @functools.wraps(original)
        def hooked(*args: Any, **kwargs: Any) -> Any:
            tensors = tuple(t for t in keras.tree.flatten((args, kwargs)) if keras.ops.is_tensor(t) or _is_symbol(t))
            is_building = not getattr(layer, "built", True) and self._is_within_trace()
            if is_building or not all(is_of_pass(tensor, self._graph) for tensor in tensors):
                return original(*args, **kwargs)
            return handler(layer, original, tensors, args, kwargs)

        self._restore.append((layer, attribute, layer.__dict__.get(attribute)))
        layer.__dict__[attribute] = hooked

    def _is_within_trace(self) -> bool:
        """A layer without a `build` of its own is built by tracing its call, possibly with real tensors."""
        return not is_of_pass(keras.ops.zeros(()), self._graph)

    def _hook_children(self, layer: Any) -> bool:
        """Wrap what a layer calls; at each entry of it, as `build` may only now have made them."""
        children = children_of(layer)
        for child in children:
            self._hook(child, self._call)
        return bool(children)

    def _root_call(self, model: Any, original: Any, tensors: Any, args: Any, kwargs: Any) -> Any:
        self._hook_children(model)
        self.active.append((model, ""))
        return original(*args, **kwargs)

    def _call(self, layer: Any, original: Any, tensors: tuple[Tensor, ...], args: Any, kwargs: Any) -> Any:
        is_composite = self._hook_children(layer)
        parent, parent_path = self.active[-1]
        name, automatic = self._name_in(parent, layer)
        path = f"{parent_path}/{name}" if parent_path else name
        nth = self._n_calls[path]
        self._n_calls[path] += 1
        suffix = f":{nth}" if nth else ""
        alias = f"{parent_path}/{automatic}" if parent_path else automatic
        aliases = (alias + suffix,) if automatic != name else ()
        call = Call(path + suffix, aliases, layer, is_composite, tensors, (args, kwargs))
        outputs = self._visitor.enter(call)
        if outputs is None:
            self.active.append((layer, call.path))
            outputs = original(*args, **kwargs)
            self.active.pop()
        return self._visitor.leave(call, outputs)

    def _name_in(self, parent: Any, layer: Any) -> tuple[str, str]:
        """What a layer is filed under within its parent, and its own name, both as parts of a path."""
        key = (id(parent), id(layer))
        if key not in self._names:
            name = name_within(parent, layer)
            self._names[key] = (self._part(name), self._part(layer.name))
        return self._names[key]

    def _part(self, name: str) -> str:
        is_reserved = len(self.active) == 1 and name in RESERVED_NAMES
        return join_path(f"{name}_" if is_reserved else name)


def _is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def name_within(parent: Any, layer: Any) -> str:
    """What a layer is filed under within its parent."""
    return _attribute_of(parent, layer) or str(layer.name)


def _attribute_of(parent: Any, layer: Any) -> str | None:
    """The attribute of a subclassed model that holds an automatically named layer: ``d1``, ``blocks_0_1``.

    ``dense_7`` says nothing, and is another name after the model was loaded again; the attribute is the same.
    """
    is_subclassed = not isinstance(parent, keras.Sequential) and not hasattr(parent, "operations")
    # Keras' rule for automatic names: the class in snake case, numbered from the second on.
    stem = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", type(layer).__name__))
    stem = re.sub("([a-z])([A-Z])", r"\1_\2", stem).lower()
    if not is_subclassed or re.fullmatch(rf"{re.escape(stem)}(_\d+)?", layer.name) is None:
        return None
    # Lists of all of them, Keras' own and TensorFlow's, say nothing of where a layer is.
    attributes = [attribute for attribute in vars(parent) if not attribute.startswith(("_layers", "_self_"))]
    for attribute in sorted(attributes, key=lambda name: name.startswith("_")):
        place = _place_in(vars(parent)[attribute], layer)
        if place is not None:
            return f"{attribute}{place}"
    return None


def _place_in(value: Any, layer: Any) -> str | None:
    """Where an attribute holds a layer, in lists and dicts within one another: ``_0_1``; None: it does not."""
    if value is layer:
        return ""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        place = _place_in(item, layer)
        if place is not None:
            return f"_{key}{place}"
    return None
