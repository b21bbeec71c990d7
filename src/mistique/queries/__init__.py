"""Diagnosis: one question a file, over the planner. An answer is a small frozen result."""

from mistique.queries.col_diff import ColDiff, col_diff
from mistique.queries.col_dist import ColDist, col_dist
from mistique.queries.drift import Drift, drift
from mistique.queries.explain import explain
from mistique.queries.get import Part, get
from mistique.queries.slices import Slices, slices
from mistique.queries.topk import TopK, topk
from mistique.queries.trace import Trace, trace

__all__ = [
    "ColDiff",
    "ColDist",
    "Drift",
    "Part",
    "Slices",
    "TopK",
    "Trace",
    "col_diff",
    "col_dist",
    "drift",
    "explain",
    "get",
    "slices",
    "topk",
    "trace",
]
