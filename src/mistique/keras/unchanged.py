"""A forward pass that leaves no trace: seeds, counters, losses and metrics are put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from mistique.keras.tensors import to_numpy

# Keras has no public way to its generator of unseeded draws; without one (a later Keras) there is nothing to
# put back.
_GLOBAL_SEED = "global_seed_generator"


@dataclass(eq=False)
class Inference:
    """What a pass did beside computing.

    Parameters
    ----------
    drew_unseeded : bool
        A layer drew random numbers without a generator of its own: run again in another process, it draws
        others.
    drew_in_python : bool
        Python's or NumPy's global generator moved.
    moved_states : bool
        Something changed that is no weight of a layer and is not saved with it: the states of a stateful RNN.
    changed : set of int
        Identities of the variables that the pass changed.
    """

    drew_unseeded: bool = False
    drew_in_python: bool = False
    moved_states: bool = False
    changed: set[int] = field(default_factory=set)

    def add(self, other: Inference) -> None:
        """What another pass did, too."""
        self.drew_unseeded |= other.drew_unseeded
        self.drew_in_python |= other.drew_in_python
        self.moved_states |= other.moved_states
        self.changed |= other.changed


@contextmanager
def unchanged_state(model: keras.Model) -> Iterator[Inference]:
    """Put back, at the end, whatever inference changed of a model's state and of the random generators.

    Weights that train are never changed by inference. What a layer counts or draws (a seed, a running mean
    that its author updates always, a metric) is. As it is put back after each batch, a layer that draws in
    inference draws the same for each batch, and a recomputed block equals the captured one.
    """
    inference = Inference()
    trained = {id(variable) for variable in model.trainable_variables}
    watched = [(v, np.array(to_numpy(v.value))) for v in model.variables if id(v) not in trained]
    states = [(v, np.array(_values_of(v))) for v in _untracked_variables(model)]
    generator = global_state.get_global_attribute(_GLOBAL_SEED)
    seed = None if generator is None else np.array(to_numpy(generator.state.value))
    losses = [(layer, list(layer._losses), set(layer._loss_ids)) for layer in model._flatten_layers()]
    # A model that is built by the pass draws its seeds: put back, the next model would draw the same.
    python_states = _python_states() if model.built else None
    try:
        yield inference
    finally:
        inference.changed = {id(variable) for variable, value in watched if _put_back(variable, value)}
        moved = {id(variable) for variable, value in states if _put_back(variable, value)}
        inference.moved_states = bool(moved)
        inference.changed |= moved
        generator_now = global_state.get_global_attribute(_GLOBAL_SEED)
        if generator is not None and seed is not None:
            inference.drew_unseeded = _put_back(generator.state, seed)
        elif generator_now is not None:
            inference.drew_unseeded = True
            global_state.set_global_attribute(_GLOBAL_SEED, None)
        for layer, kept, ids in losses:
            layer._losses[:] = kept
            layer._loss_ids.clear()
            layer._loss_ids.update(ids)
        if python_states is not None:
            inference.drew_in_python = not _are_equal(python_states, _python_states())
            random.setstate(python_states[0])
            np.random.set_state(python_states[1])  # noqa: NPY002 - the user's generator, not ours


def _python_states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's generator, not ours


def _are_equal(before: Any, after: Any) -> bool:
    (python, numpy), (python_now, numpy_now) = before, after
    # The state of the Mersenne twister: its name, its words, and plain numbers.
    is_same = all(np.array_equal(one, other) for one, other in zip(numpy, numpy_now, strict=True))
    return python == python_now and is_same


def _untracked_variables(model: keras.Model) -> Iterator[Any]:
    """Variables that layers hold and Keras does not list: states of a stateful RNN, TensorFlow's own."""
    seen = {id(variable) for variable in model.variables}
    for layer in model._flatten_layers():
        for value in vars(layer).values():
            for held in value if isinstance(value, (list, tuple)) else (value,):
                is_tensorflows = type(held).__module__.startswith("tensorflow.") and hasattr(held, "assign")
                if (isinstance(held, keras.Variable) or is_tensorflows) and id(held) not in seen:
                    seen.add(id(held))
                    yield held


def _put_back(variable: Any, value: np.ndarray) -> bool:
    """Whether it had changed."""
    has_changed = not np.array_equal(_values_of(variable), value)
    if has_changed:
        variable.assign(value)
    return has_changed


def _values_of(variable: Any) -> np.ndarray:
    return to_numpy(variable.value if isinstance(variable, keras.Variable) else variable)
