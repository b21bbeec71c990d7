"""What a payload of `tans` says before its bits: tables and parts, looked at once for whoever decodes."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel
from mistique.kernels.tans import MAX_TABLE_BITS

MAX_CONTEXTS, MAX_ROWS = 8, 2**15
# Codes of a part, about: parts are decoded one without the other, for 9 bytes each (ADR 18).
_PART_CODES, _MIN_PART_ROWS = 8192, 64
# Places of a head: numbers first, then thresholds, then the bits at which parts begin, and the end of the last.
LAG, N_THRESHOLDS, N_SYMBOLS, FRAME, BODY, PART_ROWS, N_PARTS, TABLE_BITS, THRESHOLDS = range(9)
BOUNDS = THRESHOLDS + MAX_CONTEXTS
HEAD_SIZE = BOUNDS + MAX_ROWS // _MIN_PART_ROWS + 1
# A word holds the number of symbols, and above so many bits how many a table has.
_SYMBOLS_BITS, _MIN_TABLE_BITS = 12, 10
# What is wrong with one.
TOO_SHORT, NO_CONTEXTS, NO_PARTS, NOT_SORTED, NO_TABLE = range(1, 6)


@kernel("int64(int64)", is_short=True)
def rows_of_part(n_columns: int) -> int:
    """Rows that are decoded together."""
    return max(_PART_CODES // n_columns, _MIN_PART_ROWS)


def symbols_word(n_symbols: int, table_bits: int) -> int:
    """What a head says of both."""
    return n_symbols | table_bits << _SYMBOLS_BITS


@kernel("int64(Array(uint8, 1, 'C', readonly=True), int64)")
def _word(content: np.ndarray, at: int | np.int64) -> np.int64:
    return np.int64(content[at]) | np.int64(content[at + 1]) << 8


@kernel("int64(Array(uint8, 1, 'C', readonly=True), int64, int64, int64[::1])", is_short=True)
def read_head(content: np.ndarray, n_columns: int, n_rows: int, head: np.ndarray) -> int:
    """Take a payload apart up to its bits; 0, or what is wrong with it.

    Parameters
    ----------
    content : ndarray of uint8
        From its four numbers on, to its end.
    n_columns, n_rows : int
        At least one each.
    head : ndarray of shape (HEAD_SIZE,), int64
        Takes what was found; of the compressed frequencies and of the bits, where they begin: the first end where the
        others begin, and these at the end of the payload.
    """
    if content.size < 8:
        return TOO_SHORT
    lag, n_thresholds, symbols = _word(content, 0), _word(content, 2), _word(content, 4)
    n_symbols, bits = symbols & ((1 << _SYMBOLS_BITS) - 1), symbols >> _SYMBOLS_BITS
    if bits == 0:  # by the rule of before heads said it
        bits = np.int64(10 if n_symbols <= 40 else 11 if n_symbols <= 100 else MAX_TABLE_BITS)
    if not (lag >= 1 and n_thresholds < MAX_CONTEXTS and 1 <= n_symbols <= 256 and n_rows <= MAX_ROWS):
        return NO_CONTEXTS
    if not _MIN_TABLE_BITS <= bits <= MAX_TABLE_BITS:
        return NO_TABLE
    part_rows = rows_of_part(n_columns)
    n_parts = (n_rows + part_rows - 1) // part_rows
    frame = 8 + 2 * n_thresholds + 4 * n_parts
    body = frame + _word(content, 6)
    if body > content.size:
        return TOO_SHORT
    head[LAG], head[N_THRESHOLDS], head[N_SYMBOLS], head[FRAME], head[BODY] = lag, n_thresholds, n_symbols, frame, body
    head[PART_ROWS], head[N_PARTS], head[TABLE_BITS], head[BOUNDS] = part_rows, n_parts, bits, 0
    for i in range(n_parts):
        at = 8 + 2 * n_thresholds + 4 * i
        bound = _word(content, at) | _word(content, at + 2) << 16
        if bound - head[BOUNDS + i] < 4 * bits:
            return NO_PARTS
        head[BOUNDS + i + 1] = bound
    if content.size - body != (head[BOUNDS + n_parts] + 7) // 8:
        return NO_PARTS
    for i in range(n_thresholds):
        head[THRESHOLDS + i] = _word(content, 8 + 2 * i)
        if i and head[THRESHOLDS + i] < head[THRESHOLDS + i - 1]:
            return NOT_SORTED
    return 0
