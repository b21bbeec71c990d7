"""Many chunks of the power codec to values, in two calls without the GIL: what is between them only unpacks tables.

Threads that take the GIL back between the steps of each chunk wait for one another, and for those who multiply: a third
of the time of reading a layer was that.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels import tans_head
from mistique.kernels.compile import kernel
from mistique.kernels.power import decode_power, scale_range
from mistique.kernels.tans import MAX_TABLE_BITS, guard_words
from mistique.kernels.tans_head import BOUNDS, HEAD_SIZE, THRESHOLDS, read_head
from mistique.kernels.tans_payload import decode_payload

# Before the head of `tans_head`: where its bytes begin, 0 where a chunk is not one of these, and how many scales.
START, N_SCALES, TANS = 0, 1, 2
CHUNK_HEAD = TANS + HEAD_SIZE
_HEADER_NBYTES, _TANS_METHOD = 3, 2


@kernel("void(Array(uint8, 1, 'C', readonly=True), uint32[::1])")
def _lay_scales(content: np.ndarray, bits: np.ndarray) -> None:
    """The scales of a chunk, float32 that may lie anywhere, as their bits."""
    for i in range(bits.size):
        at = _HEADER_NBYTES + 4 * i
        bits[i] = (
            np.uint32(content[at])
            | np.uint32(content[at + 1]) << np.uint32(8)
            | np.uint32(content[at + 2]) << np.uint32(16)
            | np.uint32(content[at + 3]) << np.uint32(24)
        )


@kernel(
    "void(Array(uint8, 1, 'C', readonly=True), Array(int64, 2, 'C', readonly=True),"
    " Array(int64, 2, 'C', readonly=True), int64, int64[:, ::1], float64[:, ::1])"
)
def read_heads(
    content: np.ndarray, places: np.ndarray, shapes: np.ndarray, bits: int, heads: np.ndarray, ranges: np.ndarray
) -> None:
    """Take chunks apart up to their bits: those with a scale for each unit, and tables; the others are left alone.

    Parameters
    ----------
    content : ndarray of uint8
        Where all payloads lie.
    places : ndarray of shape (n_chunks, 2), int64
        Where each payload begins, and its number of bytes. All lie within the content.
    shapes : ndarray of shape (n_chunks, 2), int64
        Columns and rows of each chunk.
    bits : int
        Of the codec.
    heads : ndarray of shape (n_chunks, CHUNK_HEAD), int64
        Takes what was found.
    ranges : ndarray of shape (n_chunks, 2), float64
        Takes the lowest and the highest scale.
    """
    for i in range(places.shape[0]):
        payload, head = content[places[i, 0] : places[i, 0] + places[i, 1]], heads[i]
        head[START] = 0
        if payload.size < _HEADER_NBYTES or payload[0] != bits:
            continue
        n_scales = np.int64(payload[1]) | np.int64(payload[2]) << 8
        start = _HEADER_NBYTES + 4 * n_scales + 1
        n_columns, n_rows = shapes[i, 0], shapes[i, 1]
        if n_scales == 0 or start > payload.size or payload[start - 1] != _TANS_METHOD:
            continue
        if n_columns < 1 or n_rows < 1 or n_columns % n_scales:
            continue
        scales = np.empty(n_scales, np.uint32)
        _lay_scales(payload, scales)
        lowest, highest = scale_range(scales.view(np.float32).astype(np.float64))
        if not -np.inf < lowest <= highest < np.inf:
            continue
        if read_head(payload[start:], n_columns, n_rows, head[TANS:]) == 0:
            head[START], head[N_SCALES], ranges[i, 0], ranges[i, 1] = start, n_scales, lowest, highest


@kernel(
    "void(Array(uint8, 1, 'C', readonly=True), Array(int64, 2, 'C', readonly=True),"
    " Array(int64, 2, 'C', readonly=True), int64[:, ::1], Array(uint8, 1, 'C', readonly=True),"
    " Array(int64, 1, 'C', readonly=True),"
    " Array(float64, 2, 'C', readonly=True), Array(int64, 2, 'C', readonly=True), float32[:, ::1])"
)
def decode_chunks(
    content: np.ndarray,
    places: np.ndarray,
    shapes: np.ndarray,
    heads: np.ndarray,
    planes: np.ndarray,
    first_planes: np.ndarray,
    unit_tables: np.ndarray,
    corners: np.ndarray,
    values: np.ndarray,
) -> None:
    """Values of the chunks whose head was read; of what turns out to be damaged, the head counts as not read.

    Parameters
    ----------
    content, places, shapes, heads
        As of `read_heads`, which was given the same.
    planes : ndarray of uint8
        Frequencies of all chunks, as `decoding_tables` takes those of one.
    first_planes : ndarray of shape (n_chunks,), int64
        Where those of each begin: as many as its head says.
    unit_tables : ndarray of shape (2, 256), float64
        As of `decode_power`.
    corners : ndarray of shape (n_chunks, 2), int64
        The first column and row of each chunk in `values`, in which it lies.
    values : ndarray of float32
    """
    most_codes = most_words = np.int64(1)
    for i in range(places.shape[0]):
        if heads[i, START]:
            most_codes = max(most_codes, shapes[i, 0] * shapes[i, 1])
            n_guard = guard_words(heads[i, TANS + tans_head.PART_ROWS])
            most_words = max(most_words, n_guard + places[i, 1] // 8 + 2)
    room, words = np.empty(most_codes, np.uint8), np.empty(most_words, np.uint64)
    tables = np.empty(tans_head.MAX_CONTEXTS << MAX_TABLE_BITS, np.uint32)
    for i in range(places.shape[0]):
        start, n_columns, n_rows = heads[i, START], shapes[i, 0], shapes[i, 1]
        if not start:
            continue
        payload, head = content[places[i, 0] : places[i, 0] + places[i, 1]], heads[i, TANS:]
        n_contexts, table_bits = head[tans_head.N_THRESHOLDS] + 1, head[tans_head.TABLE_BITS]
        part_rows, n_guard = head[tans_head.PART_ROWS], guard_words(head[tans_head.PART_ROWS])
        body = payload[start + head[tans_head.BODY] :]
        parts = np.empty((head[tans_head.N_PARTS], 3), np.int64)
        for part in range(parts.shape[0]):
            parts[part, 0] = 64 * n_guard + head[BOUNDS + part]
            parts[part, 1] = 64 * n_guard + head[BOUNDS + part + 1]
            parts[part, 2] = min(part_rows, n_rows - part * part_rows)
        codes = room[: n_columns * n_rows].reshape(n_columns, n_rows)
        n_left = decode_payload(
            body,
            n_guard,
            words[: n_guard + body.size // 8 + 2],
            planes[first_planes[i] : first_planes[i] + 2 * n_contexts * head[tans_head.N_SYMBOLS]],
            head[THRESHOLDS : THRESHOLDS + n_contexts - 1].astype(np.uint16),
            tables[: n_contexts << table_bits].reshape(n_contexts, 1 << table_bits),
            parts,
            head[tans_head.LAG],
            table_bits,
            codes,
        )
        if n_left != 0:
            heads[i, START] = 0
            continue
        scales = np.empty(heads[i, N_SCALES], np.uint32)
        _lay_scales(payload, scales)
        top, left = corners[i, 0], corners[i, 1]
        out = values[top : top + n_columns, left : left + n_rows]
        decode_power(codes, scales.view(np.float32).astype(np.float64), unit_tables, out)
