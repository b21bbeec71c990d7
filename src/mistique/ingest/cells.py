"""The cells of one column of a table."""

from __future__ import annotations

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
