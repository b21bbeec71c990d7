"""The exact codec."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from mistique.codecs import Raw
from mistique.schema import ColumnType
from tests.codecs.compliance import CodecCompliance, chunks, column_type


class TestRaw(CodecCompliance):
    codec = Raw()


@given(chunks())
def test_every_bit_comes_back(chunk: tuple[str, np.ndarray]) -> None:
    dtype, values = chunk
    codec, kind = Raw(), column_type(dtype)
    assert codec.decode(*codec.encode(values, kind), kind).tobytes() == values.tobytes()


@pytest.mark.parametrize("cell", ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<M8[ns]"])
def test_cells_that_are_no_floats_come_back_bit_by_bit(cell: str) -> None:
    values = np.arange(-8, 8).astype("<i8").view(cell if cell == "<M8[ns]" else "<i8").astype(cell)[None]
    codec, kind = Raw(), ColumnType("any", cell)
    assert codec.decode(*codec.encode(values, kind), kind).tobytes() == values.tobytes()
