"""Cells as they came: exact."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import zstandard

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

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Any type."""
        return True

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        if values.dtype.kind == "O":
            texts = [t.encode() for t in values.reshape(-1)]
            b = np.array([len(t) for t in texts], np.uint64).tobytes() + b"".join(texts)
            return np.frombuffer(zstandard.compress(b, 1), np.uint8)
        b = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize).T.tobytes()
        return np.frombuffer(zstandard.compress(b, 1), np.uint8)

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        b = zstandard.decompress(payload.tobytes())
        n = shape[0] * shape[1]
        if column_type.cell == "<U0":
            lengths = np.frombuffer(b[: 8 * n], np.uint64).astype(int)
            out = np.empty(n, object)
            p = 8 * n
            for i, l in enumerate(lengths.tolist()):
                out[i] = b[p : p + l].decode()
                p += l
            return out.reshape(shape)
        k = np.dtype(column_type.cell).itemsize
        return (
            np.ascontiguousarray(np.frombuffer(b, np.uint8).reshape(k, n).T)
            .reshape(-1)
            .view(column_type.cell)
            .reshape(shape)
        )

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        return 0.0
