"""Diagnosis: one question a file, over the planner. An answer is a small frozen result."""

from mistique.queries.col_diff import ColDiff, col_diff
from mistique.queries.col_dist import ColDist, col_dist
from mistique.queries.explain import explain
from mistique.queries.get import Part, get
from mistique.queries.history import Difference, diff
from mistique.queries.topk import TopK, topk

__all__ = ["ColDiff", "ColDist", "Difference", "Part", "TopK", "col_diff", "col_dist", "diff", "explain", "get", "topk"]
