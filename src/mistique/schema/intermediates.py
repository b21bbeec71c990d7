"""What a model gave: an intermediate, the types of its columns, how it is cut into chunks, and an index of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from mistique.schema.places import References

ROW_BLOCK_ROWS = 1024
# A table's chunk is one column: 4,096 rows of it are 32 kB. With 1,024 rows a full read took twice the time.
TABLE_BLOCK_ROWS = 4096
CHUNK_CELLS = 65_536
# A read touches whole row blocks, so a wide layer gets shorter ones: ten scattered rows of a layer of 65,536 columns
# then cost ten blocks of 64 rows, not ten of 1,024.
ROW_BLOCK_CELLS = 4 * 1024 * 1024

SPARSE_ROWS = "sparse_rows"  # the container of sparse matrices that are stored row by row


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What the values of a column are, and the cells that hold them.

    Parameters
    ----------
    dtype : str
        As pandas, NumPy or ml_dtypes spells it: ``float32``, ``bfloat16``, ``Int64``, ``str``, ``category``,
        ``datetime64[ns, Europe/Paris]``.
    cell : str
        NumPy dtype of the stored cells, ``<f4``; ``<U0`` for text. 16-bit floats are kept as their bits in ``<u2``.
    is_nullable : bool
        A mask of the valid cells is stored beside the values.
    categories : tuple, optional
        Of a categorical column, in the order of their codes.
    is_ordered : bool
        Whether the categories have an order.
    """

    dtype: str
    cell: str
    is_nullable: bool = False
    categories: tuple[Any, ...] | None = None
    is_ordered: bool = False

    @property
    def is_float(self) -> bool:
        """A quantizer may take it."""
        return self.dtype in ("float16", "bfloat16", "float32", "float64") and not self.is_nullable


@dataclass(frozen=True)
class Intermediate:
    """One stage's or layer's output, of one model version, over one dataset.

    Parameters
    ----------
    name : str
        Its path within the model, see `join_path`.
    role : {"input", "stage", "mask", "gradient", "prediction", "target", "weight", "row_label"}
        What it is to the model.
    n_rows : int
    shape : tuple of int
        Of one row, as the model gives it: ``(28, 28, 64)`` for a feature map, ``(n_columns,)`` for a table.
    types : tuple of ColumnType
        One for each column, or one for all.
    columns : tuple of str, optional
        Their names. None: they are numbered.
    container : {"array", "matrix", "vector", "frame", "series", "polars", "sparse", "sparse_rows", "index"}
        What it came in. An array is the output of a layer and is cut into column groups; the others are tables.
    aliases : tuple of str
        Other names it answers to.
    parents : tuple of str, optional
        Intermediates it was computed from. None: not known, it can be recomputed from the input alone.
    detail : str
        Class of the stage or layer.
    codec : mapping
        Name and parameters of the codec asked for.
    summary_error : float
        Largest distance of a finite value from what a summary (`Pool`) keeps in its place, over all rows; infinity
        where there is no bound. Of what was stored after its capture, `recompute_difference` is in it. It adds to the
        error of every answer that is read.
    forward_seconds_per_row, forward_seconds_per_call : float
        Measured at capture, of this stage alone: what a row takes, and what a run takes whatever its rows.
    recompute_difference : float, optional
        Largest absolute difference between captured and recomputed values, as seen on a sample at capture. 0.0: they
        were bit-equal. None: it cannot be recomputed.
    recompute_note : str
        Why it cannot be recomputed, or what the difference comes from.
    lineage : str
        Digest of all that determines its values: code, configuration and weights of what computed it, its parents'
        lineage, the content of the input. Equal lineage, equal values. Empty: not known.
    derivation : mapping, optional
        How its values follow from those of its one parent by a rule that needs no model: ``{"op": "reshape"}``.
    is_by_column : bool
        Its columns, not its rows, lay together in memory: a model that is given it again adds in the same order only
        if they do so again.
    raw_nbytes : int
        Of the values, as captured.
    stored_nbytes : int
        Its share of the bytes in the store, new or referenced.
    references : References, optional
        None: not stored.
    """

    name: str
    role: str
    n_rows: int
    shape: tuple[int, ...]
    types: tuple[ColumnType, ...]
    columns: tuple[str, ...] | None = None
    container: str = "array"
    aliases: tuple[str, ...] = ()
    parents: tuple[str, ...] | None = ()
    detail: str = ""
    codec: Mapping[str, Any] = field(default_factory=lambda: {"name": "raw"})
    summary_error: float = 0.0
    forward_seconds_per_row: float = 0.0
    forward_seconds_per_call: float = 0.0
    recompute_difference: float | None = 0.0
    recompute_note: str = ""
    lineage: str = ""
    derivation: Mapping[str, Any] | None = None
    is_by_column: bool = False
    raw_nbytes: int = 0
    stored_nbytes: int = 0
    references: References | None = None

    @cached_property
    def n_columns(self) -> int:
        """Columns of a row, its positions and channels laid flat."""
        return prod(self.shape)

    @property
    def pass_seconds_per_row(self) -> float:
        """Measured at capture: of a run of all rows, each row's share."""
        return self.forward_seconds_per_row + self.forward_seconds_per_call / max(self.n_rows, 1)

    @property
    def is_stored(self) -> bool:
        """It can be read."""
        return self.references is not None

    @property
    def is_table(self) -> bool:
        """Every column is a chunk of its own: tables, and whatever has more than one type."""
        return self.container != "array" or len(self.types) > 1

    @property
    def n_units(self) -> int:
        """Neurons, or channels of a feature map."""
        return self.shape[-1] if self.shape else 1

    @property
    def positions(self) -> int:
        """Columns of one unit: the places of a feature map, or the steps of a sequence."""
        return prod(self.shape[:-1])

    @cached_property
    def block_rows(self) -> int:
        """Rows of a row block: 4,096 of a table, 1,024 of a layer, fewer where it is wide."""
        rows = TABLE_BLOCK_ROWS if self.is_table else ROW_BLOCK_ROWS
        while rows > 64 and rows * self.n_columns > ROW_BLOCK_CELLS:
            rows //= 2
        return rows

    @cached_property
    def group_columns(self) -> int:
        """Columns of a chunk: one in a table; in a layer about `CHUNK_CELLS` cells, cut where units end."""
        if self.is_table:
            return 1
        width = max(CHUNK_CELLS // self.block_rows, 1)
        if self.positions <= width:
            return min(width // self.positions * self.positions, self.n_columns)
        fitting = [w for w in range(width // 4, 2 * width + 1) if self.positions % w == 0]
        return max(fitting, default=width)

    @property
    def n_blocks(self) -> int:
        """Row blocks of it."""
        return -(-self.n_rows // self.block_rows)

    @property
    def n_groups(self) -> int:
        """Column groups of it, without the masks of nullable columns."""
        return -(-self.n_columns // self.group_columns)

    @cached_property
    def mask_groups(self) -> Mapping[int, int]:
        """For each nullable column, the group that holds its mask: they follow the groups of values."""
        if not any(column_type.is_nullable for column_type in self.types):
            return {}  # 5 ms otherwise, of a layer of 4,096 columns
        nullable = [column for column in range(self.n_columns) if self.type_of(column).is_nullable]
        return {column: self.n_groups + i for i, column in enumerate(nullable)}

    def type_of(self, column: int) -> ColumnType:
        """The type of one column."""
        return self.types[0] if len(self.types) == 1 else self.types[column]

    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, numbered where they have none."""
        return self.columns if self.columns is not None else tuple(map(str, range(self.n_columns)))


@dataclass(frozen=True)
class Index:
    """What answers questions of a few units of a stored layer in place of its chunks: one unit of a segment for each.

    Parameters
    ----------
    name : str
        Of the intermediate.
    form : {"codes", "cells", "maxima", "bounds"}
        What is kept of a unit: the codes of its quantizer, its values, the largest of its positions in each row and
        where it is, or bounds of its values (docs/adr/0023).
    span_rows : int
        Rows of a unit of the segment: whole row blocks.
    n_heads : int
        Of each span, before its units: what the codes of a column group stand for, in each row block.
    n_units : int
    max_abs_error : float
        Of the layer as it is stored.
    encoded_nbytes : int
        Bytes that it takes in the store.
    references : References, optional
        A span for a block, heads and units for groups. None: not loaded.
    """

    name: str
    form: str
    span_rows: int
    n_heads: int
    n_units: int
    max_abs_error: float
    encoded_nbytes: int
    references: References | None = None


@dataclass(frozen=True)
class Tally:
    """Counts or sums over all rows of an intermediate, kept from a question that went through them.

    Parameters
    ----------
    name : str
        Of the intermediate.
    what : str
        What was counted. Only a question of exactly this is answered by it.
    shape : tuple of int
        Of the figures, (n_figures, n_columns), float64.
    max_abs_error : float
        Of the values that were counted.
    encoded_nbytes : int
        Bytes of the figures in the store.
    """

    name: str
    what: str
    shape: tuple[int, int]
    max_abs_error: float
    encoded_nbytes: int
