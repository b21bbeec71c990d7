"""A chunk that an intermediate refers to, and whether the unit there can be what it says: both may be a stranger's."""

from __future__ import annotations

from dataclasses import dataclass

from mistique.errors import ChunkCorruptError
from mistique.schema import Intermediate
from mistique.storage.units import UnitKind

DICTIONARY = -1  # stands for a block: the distinct values of a group whose chunks number them
_NUMBERS = ("|u1", "<u2", "<u4")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk belongs in its intermediate, and its place in its unit."""

    block: int
    group: int
    place: int


def check_chunk(
    node: Intermediate, chunk: Chunk, kind: UnitKind, shape: tuple[int, int], *, is_numbers: bool, where: str
) -> None:
    """See that a unit is what an intermediate says of it.

    Raises
    ------
    ChunkCorruptError
    """
    cells: tuple[str, ...] = (cell_of(node, chunk.group),)
    rows = min(node.block_rows, node.n_rows - chunk.block * node.block_rows)
    if chunk.block == DICTIONARY:
        rows = shape[1]
    elif is_numbers:
        cells = _NUMBERS
    if node.is_table:
        fits = kind.is_table and 0 <= chunk.place < shape[0]
    else:
        width = min(node.group_columns, node.n_columns - chunk.group * node.group_columns)
        fits = not kind.is_table and chunk.place == 0 and shape[0] == width
    if not fits or shape[1] != rows or kind.cell not in cells:
        raise ChunkCorruptError(
            where=where,
            expected=f"block {chunk.block}, group {chunk.group} of {node.name!r}, {rows} rows of {' or '.join(cells)}",
            got=f"shape {shape} of {kind.cell}",
        )


def cell_of(intermediate: Intermediate, group: int) -> str:
    """The cell type of a group; masks follow the values."""
    if not intermediate.is_table:
        return intermediate.types[0].cell
    return "|u1" if group >= intermediate.n_groups else intermediate.type_of(group).cell
