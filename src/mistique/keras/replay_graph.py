"""A replay as one graph, traced once for each target, its sources and their geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import keras
import numpy as np

from mistique.keras.replay import Route, replay_batch
from mistique.keras.tracing import Traced, isolate
from mistique.keras.unchanged import unchanged_state
from mistique.planner.recomputer import MAX_SET_UP, SETUP

_ATTRIBUTE = "_mistique_replays"


@dataclass(frozen=True, slots=True)
class _Graph:
    traced: Traced
    # What ran, and the share of each in the seconds of all.
    shares: Mapping[str, float]
    # Of all that ran, as measured at the capture; 0: not measured.
    seconds_per_row: float


def replay_graph(
    model: keras.Model, route: Route, values: Mapping[str, np.ndarray], *, seconds: dict[str, float]
) -> np.ndarray:
    """Values of the target for one batch of its sources; adds to `seconds` what each layer that ran took.

    Parameters
    ----------
    model : keras.Model
        As it was loaded; its graphs are kept with it.
    route : Route
    values : mapping of name to ndarray
    seconds : dict of name to float

    Raises
    ------
    ModelMismatchError
        As `replay_batch`.
    """
    in_order = {name: values[name] for name in sorted(values)}
    key = route.target, tuple((name, array.shape, array.dtype.str) for name, array in in_order.items())
    # Not through setattr, which Keras tracks.
    graphs: dict[Any, _Graph] = model.__dict__.setdefault(_ATTRIBUTE, {})
    is_new = key not in graphs
    if is_new:
        if len(graphs) >= MAX_SET_UP:
            del graphs[next(iter(graphs))]
        started = perf_counter()
        graphs[key] = _trace(model, route, in_order)
        seconds[SETUP] = seconds.get(SETUP, 0.0) + perf_counter() - started
    graph = graphs[key]
    started = perf_counter()
    if graph.traced.may_write:
        with unchanged_state(model):
            (found,) = graph.traced(in_order)
    else:
        (found,) = graph.traced(in_order)
    total = perf_counter() - started
    if is_new:  # TensorFlow optimizes a graph when it is called for the first time
        n_rows = len(next(iter(values.values())))
        usual = min(total, graph.seconds_per_row * n_rows) or total
        seconds[SETUP] += total - usual
        total = usual
    for name, share in graph.shares.items():
        seconds[name] = seconds.get(name, 0.0) + share * total
    return np.asarray(found.numpy())


def _trace(model: keras.Model, route: Route, values: Mapping[str, np.ndarray]) -> _Graph:
    ran: dict[str, float] = {}

    def function(tensors: Mapping[str, Any]) -> list[Any]:
        return [replay_batch(model, route, tensors, seconds=ran, isolate=isolate)]

    with unchanged_state(model):
        traced = Traced(function, dict(values))
    known = {name: route.intermediates[name].forward_seconds_per_row for name in ran if name in route.intermediates}
    total = sum(known.values())
    shares = {name: known.get(name, 0.0) / total if total else 1 / len(ran) for name in ran}
    return _Graph(traced, shares, total)
