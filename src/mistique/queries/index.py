"""An index of a layer: what makes questions of a few of its units quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistique.errors import QueryError
from mistique.planner.index_byproduct import build_index, why_not_indexed
from mistique.planner.index_layout import BOUNDS, CELLS, CODES, MAXIMA, float32_nbytes
from mistique.planner.plan import format_nbytes
from mistique.queries.selection import find
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store

_FORMS = {
    CODES: "the codes of every unit",
    CELLS: "the values of every unit",
    MAXIMA: "the largest of each unit's positions, in every row",
    BOUNDS: "bounds of the values of every unit",
}


@dataclass(frozen=True, repr=False)
class Indexed:
    """The index of an intermediate. Made by `index`.

    Parameters
    ----------
    key : str
    form : {"codes", "cells", "maxima", "bounds"}
        What is kept: the codes of a quantizer, values, the largest of the positions of each unit, or bounds of values.
    nbytes : int
        That it takes in the store.
    share : float
        Of its values as float32.
    """

    key: str
    form: str
    nbytes: int
    share: float

    def __repr__(self) -> str:
        return f"index of {self.key}: {_FORMS[self.form]}, {format_nbytes(self.nbytes)}, {self.share:.1%} of float32"


def index(store: Store, key: str | Key, *, max_share: float = 0.2) -> Indexed:
    """The index of a stored layer, made now unless it has one.

    A chunk of a layer holds many units, so what one unit is in all rows takes all chunks that it has a part in. An
    index keeps each unit by itself, and the planner reads it where that is quicker; answers are the same, bit for bit.

    Parameters
    ----------
    store : Store
    key : str or Key
    max_share : float, default 0.2
        Of the values as float32, that it may take.

    Returns
    -------
    Indexed

    Raises
    ------
    IndexTooLargeError
        It would take more than `max_share`.
    QueryError
        It is a table, or not stored, or stored in part.
    IntermediateNotFoundError, StoreReadOnlyError

    Notes
    -----
    After DeepEverest, doi 10.14778/3485450.3485460: there a partition holds rows of about the same activation, here it
    holds those of one code of the quantizer, so what is read of it needs no check against the values. Of a feature map
    whose chunks hold less than four units, the largest of the positions of each unit is kept, for `mistique.topk`. Of
    an exactly stored layer whose values do not fit `max_share`, the partition of each row by its value is kept, with
    the bounds of each partition and the values of the highest and lowest rows: `mistique.topk` and `mistique.knn` then
    read those rows alone that can still be among the first.
    Docs: ``docs/adr/0023-indexes.md``; held by ``tests/planner/test_index.py``.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> layer = np.random.default_rng(0).normal(size=(4000, 128)).astype(np.float32).clip(0)
    >>> with store.capture(model="net", dataset="test", framework="keras") as capture:
    ...     capture.append("dense", layer)
    >>> made = mistique.index(store, "net@1/test/dense")
    >>> made.form, made.share < 0.2
    ('codes', True)
    >>> [c.road for c in mistique.explain(store, "net@1/test/dense", columns=[3]).candidates]
    ['read', 'index', 'recompute']
    >>> mistique.index(store, "net@1/test/conv")
    Traceback (most recent call last):
    ...
    mistique.errors.IntermediateNotFoundError: no intermediate in net@1/test: 'conv'; nearest: dense
    """
    if not max_share > 0:
        raise QueryError(f"max_share: expected a share above 0, got {max_share!r}")
    capture, found = find(store, key)
    graph = store.graph(capture)
    node = graph.nodes[found.name]
    made = graph.indexes.get(node.name)
    if made is None:
        why_not = why_not_indexed(node)
        if why_not:
            raise QueryError(f"{capture.prefix}/{node.name} cannot be indexed: {why_not}")
        made = build_index(store, capture, node, max_share=max_share)
    share = made.encoded_nbytes / float32_nbytes(node)
    return Indexed(f"{capture.prefix}/{node.name}", made.form, made.encoded_nbytes, share)
