"""The cells of columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mistique.schema import ColumnType


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The cells of one column, its mask of valid cells, and what they are."""

    cells: np.ndarray
    valid: np.ndarray | None
    type: ColumnType
    text_nbytes: int = 0  # of text: in UTF-8


_MASK = ColumnType("uint8", "|u1")


def with_masks(columns: Sequence[Column]) -> Iterator[Column]:
    """Columns, and behind them the masks of those that have one, as columns of bytes."""
    yield from columns
    for column in columns:
        if column.valid is not None:
            yield Column(column.valid.view(np.uint8), None, _MASK)
