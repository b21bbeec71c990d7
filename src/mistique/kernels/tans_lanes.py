"""The decoder of `tans` for eight parts at once, one in each lane: a code takes a third of the time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from mistique.kernels import lanes
from mistique.kernels.compile import kernel
from mistique.kernels.lanes import LANES, N_LANES
from mistique.kernels.neighbours import neighbour_sums

# Two codes take at most this many bits: with the seven before them in their byte they fit 32.
_WINDOW = np.uint32(24)
_ONE, _SEVEN, _BYTE = np.uint32(1), np.uint32(7), np.uint32(0xFF)
_N, _QUARTER = np.uint64(N_LANES), np.uint64(4 * N_LANES)


@kernel(types.UniTuple(LANES, 2)(LANES, types.Array(types.uint64, 1, "C")))
def _window(at: Any, words: np.ndarray) -> tuple[Any, Any]:
    """The 24 bits below a place in the stream, and where they begin."""
    low = lanes.subtract(at, _WINDOW)
    found = lanes.gather_at_bytes(words, lanes.right_by(low, np.uint32(3)))
    return lanes.right_by(found, lanes.both(low, _SEVEN)), low


@kernel(types.UniTuple(LANES, 2)(LANES, LANES, LANES))
def _pop(window: Any, left: Any, entry: Any) -> tuple[Any, Any]:
    """From the entry of a state: the next state, and how much of the window is left."""
    n_bits = lanes.both(lanes.right_by(entry, np.uint32(8)), _BYTE)
    left = lanes.subtract(left, n_bits)
    bits = lanes.both(lanes.right_by(window, left), lanes.subtract(lanes.left_by(_ONE, n_bits), _ONE))
    return lanes.add(lanes.right_by(entry, np.uint32(16)), bits), left


@kernel(
    "int64(uint64[::1], Array(int64, 2, 'C', readonly=True), int64, Array(uint16, 1, 'C', readonly=True), int64,"
    " uint32[::1], uint8[:, :])"
)
def decode_lanes(
    words: np.ndarray,
    parts: np.ndarray,
    lag: int,
    contexts: np.ndarray,
    table_bits: int,
    tables: np.ndarray,
    codes: np.ndarray,
) -> np.int64:
    """`decode_tans` of up to eight parts of the same number of rows, a multiple of four, into their rows of `codes`.

    Parameters
    ----------
    words, parts, lag, contexts, table_bits, tables
        As there; no part ends behind the 2**31st bit.
    codes : ndarray of shape (n_columns, rows of the parts), uint8

    Notes
    -----
    Nothing that is looked up can lie outside: a state of `decoding_tables` is below ``2**table_bits`` whatever the bits
    are, sums of two codes are below N_SUMS, and of a column no more bits are taken than there are zeros before the
    first part. Row by row the parts lie side by side while they are decoded, and are sorted at the end: what a code is
    foreseen from lies in its own row.
    """
    n_parts, n, n_columns = parts.shape[0], parts[0, 2], codes.shape[0]
    firsts, ends = np.empty(N_LANES, np.uint32), np.empty(N_LANES, np.uint32)
    for lane in range(N_LANES):
        part = parts[min(lane, n_parts - 1)]  # what there is no part for is decoded again
        firsts[lane], ends[lane] = part[0], part[1]
    zero, mask = np.uint64(0), np.uint32((1 << table_bits) - 1)
    bits = np.uint32(table_bits)
    at = lanes.load(ends, zero)
    none = lanes.both(at, np.uint32(0))
    window, low = _window(at, words)
    a = lanes.both(lanes.right_by(window, _WINDOW - bits), mask)
    b = lanes.both(lanes.right_by(window, _WINDOW - bits - bits), mask)
    window, low = _window(lanes.subtract(at, bits + bits), words)
    c = lanes.both(lanes.right_by(window, _WINDOW - bits), mask)
    d = lanes.both(lanes.right_by(window, _WINDOW - bits - bits), mask)
    at = lanes.subtract(at, np.uint32(4) * bits)
    whole, offsets = lanes.add(none, _WINDOW), contexts.astype(np.uint32)
    sums, sorted_later = np.empty(N_LANES * n, np.uint16), np.empty(n_columns * N_LANES * n, np.uint8)
    for column in range(n_columns):
        lanes.store(at, ends, zero)
        for lane in range(N_LANES):
            if ends[lane] < firsts[lane]:
                return np.int64(-1)
        neighbour_sums(sorted_later, N_LANES * n, column, lag, 0, sums)
        out = np.uint64(column * N_LANES * n)
        for quarter in range(n // 4):
            h = np.uint64(quarter) * _QUARTER
            window, low = _window(at, words)
            entry = lanes.gather(tables, lanes.add(lanes.gather(offsets, lanes.load(sums, h)), a))
            lanes.store(entry, sorted_later, out + h)
            a, left = _pop(window, whole, entry)
            h += _N
            entry = lanes.gather(tables, lanes.add(lanes.gather(offsets, lanes.load(sums, h)), b))
            lanes.store(entry, sorted_later, out + h)
            b, left = _pop(window, left, entry)
            h += _N
            window, low = _window(lanes.add(low, left), words)
            entry = lanes.gather(tables, lanes.add(lanes.gather(offsets, lanes.load(sums, h)), c))
            lanes.store(entry, sorted_later, out + h)
            c, left = _pop(window, whole, entry)
            h += _N
            entry = lanes.gather(tables, lanes.add(lanes.gather(offsets, lanes.load(sums, h)), d))
            lanes.store(entry, sorted_later, out + h)
            d, left = _pop(window, left, entry)
            at = lanes.add(low, left)
    n_left = np.int64(0)
    lanes.store(at, ends, zero)
    for lane in range(N_LANES):
        if ends[lane] < firsts[lane]:
            return np.int64(-1)
        n_left |= np.int64(ends[lane] - firsts[lane])
    for state in (a, b, c, d):
        lanes.store(state, ends, zero)
        for lane in range(N_LANES):
            n_left |= np.int64(ends[lane])
    for column in range(n_columns):
        row = sorted_later[column * N_LANES * n : (column + 1) * N_LANES * n]
        for part in range(n_parts):
            line, beside = codes[column, part * n : (part + 1) * n], row[part:]
            for i in range(n):
                line[i] = beside[i * N_LANES]
    return n_left
