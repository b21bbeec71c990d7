"""Values as they came, bit by bit, in few bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import ALL, register
from mistique.codecs.lossless_columns import decode_columns, encode_columns
from mistique.codecs.lossless_floats import decode_floats, encode_floats, mantissas_are_noise
from mistique.codecs.lossless_text import decode_text, encode_text
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.schema import ColumnType

_CONSTANT, _COLUMNS, _FLOATS, _TEXT = 0, 1, 2, 3
# Below, the table of the entropy stage weighs more than it saves.
_MIN_FLOATS = 4096


@register
@dataclass(frozen=True)
class Raw:
    """The exact codec: every bit comes back, NaN payloads, the sign of -0.0 and denormals included.

    Notes
    -----
    Chosen for each chunk: a constant is one cell; 16-bit and 32-bit floats whose mantissas are noise go through
    `mistique.codecs.lossless_floats`, other numbers through `mistique.codecs.lossless_columns`, text through
    `mistique.codecs.lossless_text`. Held by ``tests/codecs/test_raw.py``; bytes in ADR 9.

    Examples
    --------
    >>> import numpy as np
    >>> from mistique.schema import ColumnType
    >>> payload = Raw().encode(np.array([[1.5, -0.0]]), ColumnType("float64", "<f8"))
    >>> Raw().decode(payload, (1, 2), ColumnType("float64", "<f8"))
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
        """A byte that says how, and the cells."""
        if values.dtype.kind in "OU":
            return joined(bytes([_TEXT]), encode_text(values))
        values = np.ascontiguousarray(values)
        bits = values.reshape(-1).view(f"u{values.itemsize}")
        # The ends first: a chunk that is not constant is mostly known by them.
        if bits.size and bits[0] == bits[-1] and (bits == bits[0]).all():
            return joined(bytes([_CONSTANT]), bits[:1].tobytes())
        is_narrow_float = column_type.dtype in ("float16", "bfloat16", "float32")
        if is_narrow_float and bits.size >= _MIN_FLOATS and mantissas_are_noise(values):
            return joined(bytes([_FLOATS]), encode_floats(values))
        return joined(bytes([_COLUMNS]), encode_columns(values))

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """The values themselves."""
        return self.decode_part(payload, shape, column_type, columns=ALL, rows=ALL)

    def decode_part(
        self,
        payload: np.ndarray,
        shape: tuple[int, int],
        column_type: ColumnType,
        *,
        columns: slice | np.ndarray,
        rows: slice | np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Values of some columns and rows: of floats whose mantissas are noise alone for less than all of them."""
        reader = PayloadReader(payload)
        (method,) = reader.unpack("<B")
        cell = np.dtype(column_type.cell)
        if (method == _TEXT) != (cell.kind in "OU"):
            raise damaged(f"cells of {column_type.cell}", f"method {method}")
        if method == _FLOATS and cell.itemsize in (2, 4):
            return decode_floats(reader, shape, cell, columns=columns, rows=rows)
        if method == _TEXT:
            values = decode_text(reader, shape)
        elif method == _CONSTANT:
            bits = np.frombuffer(reader.take(cell.itemsize).tobytes(), f"u{cell.itemsize}")
            reader.end()
            values = np.full(shape, bits[0], bits.dtype).view(cell)
        elif method == _COLUMNS:
            values = decode_columns(reader, shape, cell)
        else:
            raise damaged("a method of 0 to 3", method)
        return values[columns][:, rows]

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """Zero."""
        return 0.0
