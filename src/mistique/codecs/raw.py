"""Cells as they came: exact."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import register
from mistique.schema import ColumnType

_NO_PARAMS = np.empty(0, np.float64)


@register
class Raw:
    """The exact codec: every bit comes back.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> cells, params = Raw().encode(np.array([[1.5, -0.0]]), ColumnType("float64", "<f8"))
    >>> Raw().decode(cells, params, ColumnType("float64", "<f8"))
    array([[ 1.5, -0. ]])
    """

    name: ClassVar[str] = "raw"
    is_lossy: ClassVar[bool] = False
    filters: ClassVar[tuple[str, ...]] = ("byteshuffle", "zstd")
    n_params: ClassVar[int] = 0

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Any type."""
        return True

    def cell_dtype(self, column_type: ColumnType) -> np.dtype[Any]:
        """The cells of the column itself."""
        return np.dtype(column_type.cell)

    def encode(self, values: np.ndarray, column_type: ColumnType) -> tuple[np.ndarray, np.ndarray]:
        """The values themselves."""
        return values, _NO_PARAMS

    def decode(self, cells: np.ndarray, params: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """The values themselves."""
        return cells

    def max_abs_error(self, params: np.ndarray, column_type: ColumnType) -> float:
        """Zero."""
        return 0.0
