"""Similarity placement: which columns of tables are encoded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
PACK_COLUMNS = 16


class Placement:
    """Puts columns into packs, in the order in which they come."""

    def packs(self, columns: Sequence[T], cells: Sequence[np.ndarray]) -> list[list[T]]:
        """Columns in packs of at most `PACK_COLUMNS`.

        Parameters
        ----------
        columns : sequence
        cells : sequence of ndarray of shape (n_rows,)
            Their values.
        """
        return [list(columns[i : i + PACK_COLUMNS]) for i in range(0, len(columns), PACK_COLUMNS)]
