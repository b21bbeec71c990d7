"""Columns of a table, bit by bit: each in the form that compresses best, all of them in one zstd frame.

A column is constant; or integers (floats that are whole numbers too) as their distance from the least, or as
differences of neighbours, in as few bytes as these take; or its cells as they are where few are distinct, byte by byte
where many are; or what an earlier column says of it, and by how much its cells differ from that.
"""

from __future__ import annotations

import struct

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.lossless_images import N_FORMS, SAME, Image, differences, find_image, restore
from mistique.codecs.payload import PayloadReader, damaged
from mistique.kernels.planes import join_bytes

_CONSTANT, _PLAIN, _PLANES, _INTEGERS, _DIFFERENCES = range(5)
_WHOLE_FLOATS = 8  # added to the method: the cells are floats that are whole numbers
_IMAGE = 16  # and above: 16 times the form, and the number of the column that it is an image of
_COLUMN = "<BBQQ"  # method, bytes of a cell, least value or difference, first value
_SAMPLED, _FEW = 256, 96
_FEW_NBYTES = 1  # what zstd makes of a cell where few are distinct
# More columns than a table unit has are those of a layer: they are taken as one.
_MAX_COLUMNS = 16


def encode_columns(values: np.ndarray) -> bytes:
    """Cells (n_columns, n_rows) of any type without pointers."""
    heads, bodies = [], []
    columns = _columns(values)
    for number, column in enumerate(columns):
        head, body = _encode_column(column, columns[:number])
        heads.append(head)
        bodies.append(np.ascontiguousarray(body).reshape(-1).view(np.uint8))
    body = np.concatenate(bodies) if bodies else np.empty(0, np.uint8)
    frame = zstd.compress(body)
    # A frame that saves nothing costs time at each read.
    is_stored = len(frame) >= body.size
    return b"".join([bytes([is_stored]), *heads, body.tobytes() if is_stored else frame])


def decode_columns(reader: PayloadReader, shape: tuple[int, int], cell: np.dtype) -> np.ndarray:
    """What `encode_columns` was given."""
    (is_stored,) = reader.unpack("<B")
    values = np.empty(shape, cell)
    columns = _columns(values)
    heads = [reader.unpack(_COLUMN) for _ in range(len(columns))]
    widths = [_width(head, cell, number) for number, head in enumerate(heads)]
    n_bytes = sum(widths) * columns.shape[1]
    body = PayloadReader(reader.take(n_bytes) if is_stored else zstd.decompress(reader.rest(), n_bytes))
    reader.end()
    for column, head, width in zip(columns, heads, widths, strict=True):
        content = body.take(width * column.size)
        if head[0] >= _IMAGE:
            _decode_image(head, content, width, column, columns)
        else:
            _decode_column(head, content, width, column)
    return values


def _columns(values: np.ndarray) -> np.ndarray:
    """The columns, or all of them as one: a view."""
    return values if values.shape[0] <= _MAX_COLUMNS else values.reshape(1, -1)


def _width(head: tuple[int, int, int, int], cell: np.dtype, number: int) -> int:
    """Bytes that a cell of this column, the so-and-so-many-th, takes."""
    method, width, _, _ = head
    if method >= _IMAGE:
        form, base = method // _IMAGE - 1, method % _IMAGE
        if form >= N_FORMS or base >= number or width > cell.itemsize or (form != SAME and cell != np.float64):
            raise damaged(f"an image of a column before column {number}", (method, width))
        return width
    kind = method % _WHOLE_FLOATS
    if kind > _DIFFERENCES or method > _WHOLE_FLOATS + _DIFFERENCES:
        raise damaged("a column of kinds 0 to 4", method)
    if method >= _WHOLE_FLOATS and cell.kind != "f":
        raise damaged(f"cells of {cell}", "floats that are whole numbers")
    if kind == _CONSTANT:
        return 0
    if kind in (_PLAIN, _PLANES):
        return cell.itemsize
    if width > 8:
        raise damaged("up to 8 bytes", width)
    return width


def _encode_column(column: np.ndarray, earlier: np.ndarray) -> tuple[bytes, np.ndarray]:
    bits = column.view(f"u{column.itemsize}")
    if not bits.size or (bits[0] == bits).all():
        return struct.pack(_COLUMN, _CONSTANT, 0, int(bits[0]) if bits.size else 0, 0), bits[:0]
    sample = bits[:: max(bits.size // _SAMPLED, 1)]
    has_few = column.itemsize == 1 or np.unique(sample).size <= min(_FEW, sample.size // 2)
    whole = _whole_numbers(column)
    if whole is not None:
        added = _WHOLE_FLOATS if column.dtype.kind == "f" else 0
        least = whole.min()
        distances = (whole - least).view(np.uint64)
        gaps = np.diff(whole)
        step = gaps.min()
        steps = np.zeros(whole.size, np.uint64)
        steps[1:] = (gaps - step).view(np.uint64)
        width, step_width = _n_bytes(distances), _n_bytes(steps)
        if (
            image := find_image(column, earlier, n_bytes=min(width, step_width, _FEW_NBYTES if has_few else 8))
        ) is not None:
            return _encode_image(column, earlier, image)
        if step_width < width:
            head = struct.pack("<BBqq", _DIFFERENCES + added, step_width, step, whole[0])
            return head, _planes(steps, step_width)
        if width < column.itemsize or added:
            return struct.pack("<BBqq", _INTEGERS + added, width, least, 0), _planes(distances, width)
    elif (
        image := find_image(column, earlier, n_bytes=min(column.itemsize, _FEW_NBYTES if has_few else 8))
    ) is not None:
        return _encode_image(column, earlier, image)
    if has_few:
        return struct.pack(_COLUMN, _PLAIN, 0, 0, 0), bits
    return struct.pack(_COLUMN, _PLANES, 0, 0, 0), _planes(bits, bits.itemsize)


def _decode_column(head: tuple[int, int, int, int], body: np.ndarray, width: int, column: np.ndarray) -> None:
    method, _, base, first = head
    kind = method % _WHOLE_FLOATS
    bits = column.view(f"u{column.itemsize}")
    if kind == _CONSTANT:
        bits[:] = base & ((1 << 8 * column.itemsize) - 1)
    elif kind == _PLAIN:
        bits[:] = body.view(bits.dtype) if body.flags.aligned else np.frombuffer(body.tobytes(), bits.dtype)
    elif kind == _PLANES:
        bits[:] = _joined(body, width, column.size).astype(bits.dtype, copy=False)
    else:
        whole = _joined(body, width, column.size, base=base)
        if kind == _DIFFERENCES and whole.size:
            whole[0] = first
            whole = np.cumsum(whole, dtype=np.uint64)
        if method >= _WHOLE_FLOATS:
            column[:] = whole.view(np.int64)
        else:
            # The lowest bytes of a number are the number, in every narrower type.
            bits[:] = whole.astype(bits.dtype, copy=False)


def _encode_image(column: np.ndarray, earlier: np.ndarray, image: Image) -> tuple[bytes, np.ndarray]:
    difference = differences(column, earlier[image.base], image)
    width = _n_bytes(difference)
    method = _IMAGE * (1 + image.form) + image.base
    return struct.pack("<BBdd", method, width, image.p, image.q), _planes(difference, width)


def _decode_image(
    head: tuple[int, int, int, int], body: np.ndarray, width: int, column: np.ndarray, columns: np.ndarray
) -> None:
    method, _, *parameters = head
    p, q = struct.unpack("<dd", struct.pack("<QQ", *parameters))
    image = Image(method // _IMAGE - 1, method % _IMAGE, p, q)
    column.view(f"u{column.itemsize}")[:] = restore(_joined(body, width, column.size), columns[image.base], image)


def _whole_numbers(column: np.ndarray) -> np.ndarray | None:
    """The column as int64 where that loses no bit of it, and where bytes can be saved."""
    if column.itemsize == 1 or column.dtype.kind not in "iumMf" or column.dtype.itemsize > 8:
        return None
    if column.dtype.kind != "f":
        # Unsigned 64-bit numbers wrap, here and back.
        return column.view(f"i{column.itemsize}" if column.dtype.kind in "mM" else column.dtype).astype(np.int64)
    if column.itemsize == 2:
        return None
    for some in (column[:64], column):
        with np.errstate(invalid="ignore"):
            whole = some.astype(np.int64)
        if (whole.astype(column.dtype).view(f"u{column.itemsize}") != some.view(f"u{column.itemsize}")).any():
            return None
    return whole


def _n_bytes(numbers: np.ndarray) -> int:
    return -(-int(numbers.max()).bit_length() // 8)


def _planes(numbers: np.ndarray, width: int) -> np.ndarray:
    """The lowest `width` bytes of each number, first those of all numbers that weigh least."""
    return np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, numbers.itemsize)[:, :width].T)


def _joined(planes: np.ndarray, width: int, count: int, *, base: int = 0) -> np.ndarray:
    """The numbers of `_planes`, each plus `base`, uint64."""
    numbers = np.empty(count, np.uint64)
    join_bytes(planes.reshape(width, count), np.uint64(base), numbers)
    return numbers
