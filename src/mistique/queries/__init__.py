"""Diagnosis: one question a file, over the planner. An answer is a small frozen result."""

from mistique.queries.cka import Cka, cka
from mistique.queries.class_means import ClassMeans, class_means
from mistique.queries.col_diff import ColDiff, col_diff
from mistique.queries.col_dist import ColDist, col_dist
from mistique.queries.corr import Corr, corr
from mistique.queries.dead_units import DeadUnits, dead_units
from mistique.queries.drift import Drift, drift
from mistique.queries.epochs import Epochs, epochs
from mistique.queries.explain import explain
from mistique.queries.get import Part, get
from mistique.queries.history import Difference, diff
from mistique.queries.index import Indexed, index
from mistique.queries.knn import Neighbours, knn
from mistique.queries.netdissect import NetDissect, netdissect
from mistique.queries.row_diff import RowDiff, row_diff
from mistique.queries.slices import Slices, slices
from mistique.queries.svcca import Svcca, svcca
from mistique.queries.topk import TopK, topk
from mistique.queries.trace import Trace, trace
from mistique.queries.verify import Verification, verify

__all__ = [
    "Cka",
    "ClassMeans",
    "ColDiff",
    "ColDist",
    "Corr",
    "DeadUnits",
    "Difference",
    "Drift",
    "Epochs",
    "Indexed",
    "Neighbours",
    "NetDissect",
    "Part",
    "RowDiff",
    "Slices",
    "Svcca",
    "TopK",
    "Trace",
    "Verification",
    "cka",
    "class_means",
    "col_diff",
    "col_dist",
    "corr",
    "dead_units",
    "diff",
    "drift",
    "epochs",
    "explain",
    "get",
    "index",
    "knn",
    "netdissect",
    "row_diff",
    "slices",
    "svcca",
    "topk",
    "trace",
    "verify",
]
