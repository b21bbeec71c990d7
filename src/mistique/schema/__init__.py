"""The nouns of mistique, frozen: what a store holds and how it is named and cut.

A key names an intermediate and an `Intermediate` describes it. A row block is consecutive rows of one; a column chunk,
one column or column group of a row block, is what is encoded, de-duplicated, referenced and verified.
"""

from mistique.schema.intermediates import (
    CHUNK_CELLS,
    ROW_BLOCK_CELLS,
    ROW_BLOCK_ROWS,
    SPARSE_ROWS,
    TABLE_BLOCK_ROWS,
    ColumnType,
    Index,
    Intermediate,
    Tally,
)
from mistique.schema.keys import (
    INPUT,
    LATEST,
    PREDICTION,
    RESERVED_NAMES,
    ROW_LABEL,
    TARGET,
    Key,
    check_names,
    escape,
    escape_path,
    join_path,
    unescape_path,
)
from mistique.schema.places import Dictionary, Part, References, Run, Segment
from mistique.schema.versions import Version

FORMAT_VERSION = 1

__all__ = [
    "CHUNK_CELLS",
    "FORMAT_VERSION",
    "INPUT",
    "LATEST",
    "PREDICTION",
    "RESERVED_NAMES",
    "ROW_BLOCK_CELLS",
    "ROW_BLOCK_ROWS",
    "ROW_LABEL",
    "SPARSE_ROWS",
    "TABLE_BLOCK_ROWS",
    "TARGET",
    "ColumnType",
    "Dictionary",
    "Index",
    "Intermediate",
    "Key",
    "Part",
    "References",
    "Run",
    "Segment",
    "Tally",
    "Version",
    "check_names",
    "escape",
    "escape_path",
    "join_path",
    "unescape_path",
]
