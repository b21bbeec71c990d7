"""What lies in the segments of an intermediate: its rows, or the smaller rows that a summary made of them."""

from __future__ import annotations

from dataclasses import replace

from mistique.codecs.codec import codec_from_config
from mistique.codecs.pool import Pool
from mistique.errors import ChunkCorruptError
from mistique.schema import SPARSE_ROWS, ColumnType, Intermediate

_TEXT = ColumnType("str", "<U0")


def pool_of(node: Intermediate) -> Pool | None:
    """The pool that the rows of an intermediate went through before they were cut into chunks; None: there is none.

    Raises
    ------
    ChunkCorruptError
        The record names a pool and rows that no pool takes.
    """
    if node.codec.get("name") != Pool.name:
        return None
    pool = codec_from_config(node.codec)
    assert isinstance(pool, Pool)
    if node.is_table or not pool.applies_to_shape(node.shape):
        where = f"the record of {node.name!r}"
        raise ChunkCorruptError(where=where, expected="feature maps, as they are pooled", got=f"shape {node.shape}")
    return pool


def stored_form(node: Intermediate) -> Intermediate:
    """An intermediate as its chunks hold it: pooled, a wide sparse matrix as two columns of text, others as they are.

    Examples
    --------
    >>> from mistique.schema import ColumnType
    >>> maps = Intermediate("conv", "stage", 10, (8, 8, 3), (ColumnType("float32", "<f4"),), codec=Pool().config())
    >>> stored_form(maps).shape, stored_form(maps).codec["name"], stored_form(stored_form(maps)).shape
    ((4, 4, 3), 'power', (4, 4, 3))
    """
    if node.container == SPARSE_ROWS:
        return replace(node, container="frame", shape=(2,), types=(_TEXT, _TEXT), columns=None, codec={"name": "raw"})
    pool = pool_of(node)
    if pool is None:
        return node
    return replace(node, shape=pool.stored_shape(node.shape), codec=pool.values_codec.config())
