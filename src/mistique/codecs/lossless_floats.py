"""Floats of a layer, bit by bit: exponents through the entropy stage, mantissas where the value is not zero.

Exponents of neighbouring positions resemble one another, and zeros have one of their own; mantissas are noise, so each
of their bytes is compressed only where a sample says that it pays.
"""

from __future__ import annotations

import struct

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.codec import ALL
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.payload import PayloadReader, damaged
from mistique.codecs.threads import scratch
from mistique.kernels import planes as kernels

_CONSTANT, _STORED, _ZSTD = 0, 1, 2
_SAMPLE_NBYTES = 4096
_HEADER = "<?I"


def mantissas_are_noise(values: np.ndarray) -> bool:
    """Whether the lowest byte of the values that are not zero cannot be compressed: floats that were computed."""
    lowest = values.reshape(-1).view(np.uint8)[:: values.itemsize]
    start = lowest.size // 3
    sample = lowest[start : start + 4 * _SAMPLE_NBYTES]
    sample = np.ascontiguousarray(sample[sample != 0][:_SAMPLE_NBYTES])
    return sample.size > 256 and not _pays(sample)


def encode_floats(values: np.ndarray) -> bytes:
    """Cells of 16-bit or 32-bit floats (n_columns, n_rows), by their bits."""
    patterns = _patterns(values)
    exponents = np.empty(values.shape, np.uint8)
    is_sparse = kernels.split_exponents(patterns, exponents.reshape(-1))
    planes = scratch("planes", 3 * (patterns.size + 1), np.uint8).reshape(3, -1)
    count = kernels.split_rest(patterns, is_sparse, planes)
    coded = encode_codes(exponents)
    parts = [struct.pack(_HEADER, is_sparse, len(coded)), coded]
    for plane in planes[:, :count]:
        parts += _encode_plane(plane)
    return b"".join(parts)


def decode_floats(
    reader: PayloadReader,
    shape: tuple[int, int],
    cell: np.dtype,
    *,
    columns: slice | np.ndarray = ALL,
    rows: slice | np.ndarray = ALL,
) -> np.ndarray:
    """What `encode_floats` was given, or some ascending columns and rows of it.

    Of a part, exponents are decoded in part, and mantissas taken from where they lie. Where zeros have none, all
    exponents before them tell where that is.
    """
    is_sparse, n_coded = reader.unpack(_HEADER)
    coded = PayloadReader(reader.take(n_coded))
    planes = [_plane(reader) for _ in range(3)]
    reader.end()
    n_cells = shape[0] * shape[1]
    # No value is zero, so every one has its mantissa.
    is_sparse = is_sparse and (_STORED, n_cells) not in [(method, number) for method, number, _ in planes]
    taken = [np.arange(n)[some] for n, some in zip(shape, (columns, rows), strict=True)]
    is_whole = taken[0].size * taken[1].size == n_cells
    count, at = n_cells, ALL
    if not is_sparse:
        exponents = decode_codes(coded, shape, columns=columns, rows=rows)
    else:
        every = decode_codes(coded, shape)
        count, exponents = int(np.count_nonzero(every)), every if is_whole else every[np.ix_(*taken)]
    if not is_whole:
        at = (taken[0][:, None] * shape[1] + taken[1]).reshape(-1)
        if is_sparse:
            places = at[exponents.reshape(-1) != 0]
            at = np.empty_like(places)
            kernels.count_before(every.reshape(-1), places, at)
    n_kept = count if isinstance(at, slice) else len(at)
    mantissas = scratch("planes", 3 * (exponents.size + 1), np.uint8).reshape(3, -1)
    for plane, out in zip(planes, mantissas, strict=True):
        _decode_plane(plane, count, at, out[:n_kept])
        out[n_kept:] = 0
    patterns = np.empty(exponents.shape, np.uint32)
    kernels.join_planes(np.ascontiguousarray(exponents).reshape(-1), is_sparse, mantissas, patterns.reshape(-1))
    if cell.itemsize == 2:
        return (patterns >> np.uint32(16)).astype(np.uint16).view(cell)
    return patterns.view(cell)


def _patterns(values: np.ndarray) -> np.ndarray:
    """Bit patterns of float32. A 16-bit float becomes the upper half of one: no number, but the same bits."""
    bits = values.reshape(-1).view(f"u{values.itemsize}")
    return bits if values.itemsize == 4 else bits.astype(np.uint32) << np.uint32(16)


def _pays(sample: np.ndarray) -> bool:
    return len(zstd.compress(sample, level=1)) < 0.96 * sample.size


def _encode_plane(plane: np.ndarray) -> list[bytes]:
    if not plane.size or plane.min() == plane.max():
        return [struct.pack("<BI", _CONSTANT, plane[0] if plane.size else 0)]
    middle = max(plane.size - _SAMPLE_NBYTES, 0) // 2
    if _pays(plane[middle : middle + _SAMPLE_NBYTES]):
        frame = zstd.compress(plane, level=1)
        if len(frame) < plane.size:
            return [struct.pack("<BI", _ZSTD, len(frame)), frame]
    return [struct.pack("<BI", _STORED, plane.size), plane.tobytes()]


def _plane(reader: PayloadReader) -> tuple[int, int, np.ndarray]:
    """How a plane is kept, a number that says more, and its bytes."""
    method, number = reader.unpack("<BI")
    return method, number, reader.take(0 if method == _CONSTANT else number)


def _decode_plane(plane: tuple[int, int, np.ndarray], size: int, at: slice | np.ndarray, out: np.ndarray) -> None:
    """The bytes at some places of a plane."""
    method, number, content = plane
    if method == _CONSTANT:
        out[:] = number & 0xFF
    elif method == _STORED and number == size:
        out[:] = content[at]
    elif method == _ZSTD:
        out[:] = zstd.decompress(content, size)[at]
    else:
        raise damaged(f"a plane of {size} bytes", (method, number))
