"""Neighbours in a whole layer by a graph of rows (HNSW), and how many of the true ones it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.queries.portions import Portions
from mistique.queries.row_distances import distances_to

if TYPE_CHECKING:
    from mistique.store import Store

_METRICS = {"euclidean": "l2sq", "cosine": "cos"}
# Rows that are asked for by both roads: a recall of 0.95 is then known to about 0.01, of ten neighbours each.
_N_SAMPLED = 64
_N_NEIGHBOURS = 10
# Candidates that are looked at, of which the nearest by their true distance are taken.
_LOOKED_AT = 4


@dataclass(frozen=True, eq=False)
class RowGraph:
    """The rows of some columns of an intermediate as a graph.

    Parameters
    ----------
    graph : usearch.index.Index
    recall : float
        Share of the ten nearest rows that it finds, over sampled rows.
    n_sampled : int
    """

    graph: Any
    recall: float
    n_sampled: int

    def near(self, query: np.ndarray, k: int) -> np.ndarray:
        """Positions of rows that are likely among the k nearest, some times k of them, sorted."""
        found = self.graph.search(query.astype(np.float32), min(_LOOKED_AT * k, len(self.graph)))
        return np.unique(np.asarray(found.keys).astype(np.int64))


def row_graph(store: Store, portions: Portions, distance: str) -> RowGraph:
    """The graph of the rows of an intermediate, built by the first question of a session and kept in memory.

    Raises
    ------
    QueryError
        usearch is not installed, the distance has no graph, or a row has no number in some column.
    """
    if distance not in _METRICS:
        raise QueryError(f"approximate neighbours: expected one of {', '.join(_METRICS)}, got {distance!r}")
    key = (*portions.identity, distance)
    found: RowGraph | None = store.row_graphs.get(key)
    if found is None:
        found = store.row_graphs.keep(key, _build(portions, distance))
    return found


def _build(portions: Portions, distance: str) -> RowGraph:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise QueryError(
            'approximate neighbours need usearch: pip install "mistique[ann]", or ask without approximate=True'
        ) from error
    n_rows = portions.n_rows
    sampled = np.unique(np.linspace(0, n_rows - 1, min(_N_SAMPLED, n_rows)).astype(np.int64))
    queries = portions.rows(sampled).reshape(len(sampled), -1)
    graph = Index(ndim=queries.shape[1], metric=_METRICS[distance], dtype="f32")
    all_distances = np.empty((len(sampled), n_rows), np.float32)
    for rows, numbers in portions:
        flat = numbers.reshape(len(numbers), -1)
        if not np.isfinite(flat).all():
            raise QueryError(
                "approximate neighbours: expected finite numbers in all rows; ask without approximate=True"
            )
        graph.add(np.arange(rows.start, rows.stop), np.ascontiguousarray(flat, np.float32))
        for distances, query in zip(all_distances, queries, strict=True):
            distances[rows] = distances_to(flat, query.astype(np.float64), distance)
    k = min(_N_NEIGHBOURS, n_rows - 1)
    made = RowGraph(graph, 0.0, len(sampled))
    n_found = 0
    for own, distances, query in zip(sampled.tolist(), all_distances, queries, strict=True):
        distances[own] = np.inf  # no row is its own neighbour
        near = made.near(query, k + 1)
        last = np.partition(distances, k - 1)[k - 1] if k else np.inf
        n_found += min(int((distances[near[near != own]] <= last).sum()), k)  # of ties, any will do
    return RowGraph(graph, n_found / max(k * len(sampled), 1), len(sampled))
