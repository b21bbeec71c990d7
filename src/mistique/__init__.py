"""mistique keeps what a model computes on its way, small, and answers questions of it.

A store holds the intermediates of models: the input, the output of every stage or layer, the prediction. Questions are
answered by the cheaper of two roads, reading what is stored or running the model again, from measured costs. After
MISTIQUE: Vartak, da Trindade, Madden, Zaharia, SIGMOD 2018, doi 10.1145/3183713.3196934.

Hooks for a framework are in `mistique.sklearn` and `mistique.keras`, imported by need.
"""

from importlib.metadata import version as _version

from mistique import errors
from mistique.codecs import KBit, LowPrecision, Pool, Power, Raw, Threshold, within
from mistique.interchange import add, export
from mistique.queries import (
    cka,
    class_means,
    col_diff,
    col_dist,
    corr,
    dead_units,
    diff,
    drift,
    epochs,
    explain,
    get,
    index,
    knn,
    netdissect,
    row_diff,
    slices,
    svcca,
    topk,
    trace,
    verify,
)
from mistique.schema import Key
from mistique.store import Store, open

__version__ = _version("mistique")

__all__ = [
    "KBit",
    "Key",
    "LowPrecision",
    "Pool",
    "Power",
    "Raw",
    "Store",
    "Threshold",
    "__version__",
    "add",
    "cka",
    "class_means",
    "col_diff",
    "col_dist",
    "corr",
    "dead_units",
    "diff",
    "drift",
    "epochs",
    "errors",
    "explain",
    "export",
    "get",
    "index",
    "knn",
    "netdissect",
    "open",
    "row_diff",
    "slices",
    "svcca",
    "topk",
    "trace",
    "verify",
    "within",
]
