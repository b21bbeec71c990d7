"""Payloads taken apart as docs/format.md has them, with NumPy, zstd and the entropy stage of `tans`."""

from __future__ import annotations

import struct
from typing import Any

import ml_dtypes
import numpy as np
import zstandard

from tests.reference.tans import codes_of


class Bytes:
    """A payload that is read from its beginning on."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def take(self, n: int) -> bytes:
        """The next bytes."""
        found, self.content = self.content[:n], self.content[n:]
        assert len(found) == n
        return found

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """The next numbers."""
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.content))


def codes_in(content: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Codes that went through the entropy stage, of shape (n_columns, n_rows)."""
    found = Bytes(content)
    codes = _codes(found, shape)
    assert not found.content
    return codes


def cells_in(payload: bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    """What a codec stands for, of shape (n_columns, n_rows): its cells where it is exact, else numbers."""
    found = Bytes(payload)
    cells = _CODECS[codec["name"]](found, shape, codec, cell)
    assert not found.content
    return cells


def _power(found: Bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    bits, n_units = found.numbers("BH")
    if n_units:
        scales = np.frombuffer(found.take(4 * n_units), "<f4").astype(np.float64)
        of_column = scales[np.arange(shape[0]) // (shape[0] // n_units)]
        largest, is_signed = np.abs(of_column)[:, None], np.signbit(of_column)[:, None]
    else:
        is_signed, largest = found.numbers("Bd")
    codes = _codes(found, shape).astype(np.int64)
    n = np.where(is_signed, min(2**bits - 1, 252) // 2, min(2**bits - 1, 252))
    magnitudes = largest * (np.where(codes > n, codes - n, codes) / n) ** 2
    values = np.where(codes > n, -magnitudes, magnitudes)
    for code, special in ((253, -np.inf), (254, np.inf), (255, np.nan)):
        values[codes == code] = special
    return values


def _kbit(found: Bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    kind, _, n_codes, _, _ = found.numbers("BBHdd")
    if kind == 0:
        return _raw(found, shape, codec, cell)
    stand_for = np.frombuffer(found.take(8 * n_codes), "<f8")
    assert np.array_equal(stand_for[:4], [0, np.nan, np.inf, -np.inf], equal_nan=True)
    return stand_for[_codes(found, shape)]


def _low_precision(found: Bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    kind, _ = found.numbers("Bd")
    if kind == 0:
        return _raw(found, shape, codec, cell)
    narrow = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}[codec["dtype"]]
    return _raw(found, shape, codec, np.dtype(np.uint16)).view(narrow)


def _within(found: Bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    kind, _ = found.numbers("Bd")
    if kind == 1:
        first, step = found.numbers("dd")
        return (_codes(found, shape) + first) * step
    return _floats(found, shape, cell) if kind == 2 else _raw(found, shape, codec, cell)


def _threshold(found: Bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    n_thresholds, n_cells = found.numbers("II")
    found.take(8 * n_thresholds)
    bits = np.unpackbits(np.frombuffer(zstandard.decompress(found.rest()), np.uint8), count=n_cells)
    return bits.reshape(shape).astype(np.float64)


def _raw(found: Bytes, shape: tuple[int, int], codec: dict[str, Any], cell: np.dtype) -> np.ndarray:
    (how,) = found.numbers("B")
    if how == 0:
        return np.full(shape, np.frombuffer(found.take(cell.itemsize), cell)[0])
    return (_columns, _floats, _texts)[how - 1](found, shape, cell)


def _columns(found: Bytes, shape: tuple[int, int], cell: np.dtype) -> np.ndarray:
    (is_stored,) = found.numbers("B")
    n_columns, n_rows = shape if shape[0] <= 16 else (1, shape[0] * shape[1])
    heads = [found.numbers("BBQQ") for _ in range(n_columns)]
    rest = Bytes(found.rest() if is_stored else zstandard.decompress(found.rest()))
    cells = np.empty((n_columns, n_rows), cell)
    bits = cells.view(f"<u{cell.itemsize}")
    for column, (method, n_bytes, base, first) in enumerate(heads):
        kind = method % 8 if method < 16 else 5
        if kind == 0:
            bits[column] = base & ((1 << 8 * cell.itemsize) - 1)
            continue
        if kind == 1:
            bits[column] = np.frombuffer(rest.take(n_rows * cell.itemsize), bits.dtype)
            continue
        numbers = np.zeros(n_rows, np.uint64)
        for i in range(cell.itemsize if kind == 2 else n_bytes):
            numbers += np.frombuffer(rest.take(n_rows), np.uint8).astype(np.uint64) << np.uint64(8 * i)
        if kind == 5:
            bits[column] = _image(numbers, cells[method % 16], method // 16 - 1, *struct.pack("<QQ", base, first))
            continue
        if kind > 2:
            numbers += np.uint64(base)
        if kind == 4:
            numbers[0] = first
            numbers = np.cumsum(numbers, dtype=np.uint64)
        if method & 8:
            cells[column] = numbers.view(np.int64)
        else:
            bits[column] = numbers.astype(bits.dtype)
    assert not rest.content
    return cells.reshape(shape)


def _image(numbers: np.ndarray, base: np.ndarray, form: int, *packed: int) -> np.ndarray:
    p, q = struct.unpack("<dd", bytes(packed))
    bits = base.view(f"<u{base.itemsize}")
    if form == 0:
        return bits ^ numbers.astype(bits.dtype)
    with np.errstate(all="ignore"):
        values = (base - p) / q if form == 1 else base * p + q
    predicted = np.where(np.isnan(values), bits, values.view(np.uint64))
    signed = np.where(numbers % 2 == 0, numbers // 2, ~(numbers // 2))
    return predicted + signed


def _floats(found: Bytes, shape: tuple[int, int], cell: np.dtype) -> np.ndarray:
    is_sparse, n_coded = found.numbers("?I")
    exponents = _codes(Bytes(found.take(n_coded)), shape).reshape(-1)
    is_kept = exponents != 0 if is_sparse else np.ones(exponents.size, bool)
    words = exponents.astype(np.uint32) << np.uint32(24)
    for shift in (0, 8, 16):
        how, number = found.numbers("BI")
        if how == 0:
            plane = np.full(is_kept.sum(), number, np.uint8)
        else:
            content = found.take(number)
            plane = np.frombuffer(content if how == 1 else zstandard.decompress(content), np.uint8)
        words[is_kept] |= plane.astype(np.uint32) << np.uint32(shift)
    bits = (words >> np.uint32(1)) | (words << np.uint32(31))
    if cell.itemsize == 2:
        return (bits >> np.uint32(16)).astype(np.uint16).view(cell).reshape(shape)
    return bits.view(cell).reshape(shape)


def _texts(found: Bytes, shape: tuple[int, int], cell: np.dtype) -> np.ndarray:
    n_written, width, _ = found.numbers("IBQ")
    content, n_cells = Bytes(zstandard.decompress(found.rest())), shape[0] * shape[1]
    numbers = np.frombuffer(content.take(width * n_cells), f"<u{width}") if width else np.arange(n_cells)
    lengths = np.frombuffer(content.take(4 * n_written), "<u4")
    written = [content.take(n).decode() for n in lengths.tolist()]
    return np.array([written[number] for number in numbers.tolist()], object).reshape(shape)


def _codes(found: Bytes, shape: tuple[int, int]) -> np.ndarray:
    (how,) = found.numbers("B")
    if how == 0:
        return np.full(shape, *found.numbers("B"), np.uint8)
    if how == 1:
        return np.frombuffer(zstandard.decompress(found.rest()), np.uint8).reshape(shape)
    lag, n_thresholds, word, n_table = found.numbers("4H")
    table_bits, n_symbols = divmod(word, 4096)
    thresholds = list(found.numbers(f"{n_thresholds}H"))
    part_rows = max(8192 // shape[0], 64)
    ends = found.numbers(f"{-(-shape[1] // part_rows)}I")
    low, high = np.frombuffer(zstandard.decompress(found.take(n_table)), np.uint8).reshape(2, -1).astype(np.int64)
    frequencies = (low + 256 * high).reshape(n_thresholds + 1, n_symbols)
    if not table_bits:
        table_bits = 10 if n_symbols <= 40 else 11 if n_symbols <= 100 else 12
    assert set(frequencies.sum(axis=1).tolist()) == {2**table_bits}
    body, parts = found.rest(), []
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        part_shape = shape[0], min(part_rows, shape[1] - number * part_rows)
        parts.append(
            codes_of(body, begin, end, part_shape, lag=lag, thresholds=thresholds, frequencies=frequencies.tolist())
        )
    return np.concatenate(parts, axis=1)


_CODECS = {
    "raw": _raw,
    "power": _power,
    "kbit": _kbit,
    "low_precision": _low_precision,
    "within": _within,
    "threshold": _threshold,
}
