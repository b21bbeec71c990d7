"""Diagnosis: one question a file, over the planner. An answer is a small frozen result."""

from mistique.queries.cka import Cka, cka
from mistique.queries.class_means import ClassMeans, class_means
from mistique.queries.col_diff import ColDiff, col_diff
from mistique.queries.col_dist import ColDist, col_dist
from mistique.queries.explain import explain
from mistique.queries.get import Part, get
from mistique.queries.knn import Neighbours, knn
from mistique.queries.netdissect import NetDissect, netdissect
from mistique.queries.row_diff import RowDiff, row_diff
from mistique.queries.svcca import Svcca, svcca
from mistique.queries.topk import TopK, topk

__all__ = [
    "Cka",
    "ClassMeans",
    "ColDiff",
    "ColDist",
    "Neighbours",
    "NetDissect",
    "Part",
    "RowDiff",
    "Svcca",
    "TopK",
    "cka",
    "class_means",
    "col_diff",
    "col_dist",
    "explain",
    "get",
    "knn",
    "netdissect",
    "row_diff",
    "svcca",
    "topk",
]
