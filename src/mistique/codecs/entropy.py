"""The entropy stage of every quantizer: small codes in few bytes, with neighbouring columns as context.

The columns of a chunk are mostly the positions of a feature map. A code is foreseen from those at its left and above:
the sum of the codes one column and `lag` columns before, in classes of about equal size, picks the table that the
coder uses (ADR 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.codec import ALL
from mistique.codecs.payload import PayloadReader, damaged
from mistique.codecs.threads import scratch
from mistique.kernels import neighbours, tans, tans_head, tans_payload, tans_tables
from mistique.kernels.tans import MAX_TABLE_BITS
from mistique.kernels.tans_head import (
    BOUNDS,
    HEAD_SIZE,
    MAX_CONTEXTS,
    MAX_ROWS,
    THRESHOLDS,
    rows_of_part,
    symbols_word,
)

_CONSTANT, _ZSTD, _TANS = 0, 1, 2
# Below, the tables weigh more than they save.
_MIN_CODES = 4096
# What is wrong with a head, by what `read_head` says.
_EXPECTED = {
    tans_head.TOO_SHORT: "a head and frequencies",
    tans_head.NO_CONTEXTS: "tables of up to 8 contexts",
    tans_head.NO_PARTS: "parts up to the last bit",
    tans_head.NOT_SORTED: "sorted thresholds",
    tans_head.NO_TABLE: "tables of 1,024 to 4,096 states",
}
_SAMPLED_ROWS = 16
# Of chunks that were decoded in part: 16 MB at most.
_KEPT_TABLES = 128
_LINE_WORDS = 16
_FEW_SYMBOLS, _MOST_UNMET = 40, 1 / 20
# Every third column tells how often codes come up: 0.2% more bytes than all of them, a fifth less time.
_COUNT_STEP = 3
# Widths of maps that are tried as the distance of the upper neighbour: all small ones, and the usual large ones.
_LAGS = np.array([*range(2, 65), 96, 112, 128, 160, 192, 224, 256])


def encode_codes(codes: np.ndarray) -> bytes:
    """Codes of shape (n_columns, n_rows), uint8 and C-contiguous, as bytes that say what they are.

    Examples
    --------
    >>> codes = np.arange(6, dtype=np.uint8).reshape(2, 3)
    >>> bool((decode_codes(PayloadReader(np.frombuffer(encode_codes(codes), np.uint8)), (2, 3)) == codes).all())
    True
    """
    largest = int(codes.max(initial=0))
    if codes.size and codes.min() == largest:
        return bytes([_CONSTANT, largest])
    if codes.size < _MIN_CODES or codes.shape[1] > MAX_ROWS:
        return bytes([_ZSTD]) + zstd.compress_codes(codes)
    return _encode_tans(codes, largest + 1)


def decode_codes(
    reader: PayloadReader,
    shape: tuple[int, int],
    *,
    columns: slice | np.ndarray = ALL,
    rows: slice | np.ndarray = ALL,
) -> np.ndarray:
    """The codes that `encode_codes` was given, from all that a reader has left.

    Parameters
    ----------
    reader : PayloadReader
    shape : tuple of int
        Of what was encoded.
    columns, rows : slice without a step, or ndarray of int64, ascending
        Those wanted, at least one: columns behind the last are not decoded, nor are parts without such rows.

    Raises
    ------
    ChunkCorruptError
        They are not codes of that shape.
    """
    (method,) = reader.unpack("<B")
    if method == _CONSTANT:
        (code,) = reader.unpack("<B")
        reader.end()
        return np.full(shape, code, np.uint8)[columns][:, rows]
    if method == _ZSTD:
        return zstd.decompress(reader.rest(), shape[0] * shape[1]).reshape(shape)[columns][:, rows]
    if method == _TANS and min(shape) > 0:
        n_wanted = columns.indices(shape[0])[1] if isinstance(columns, slice) else int(columns[-1]) + 1
        found = _decode_tans(reader, shape, n_wanted, rows)
        return found if columns is ALL else found[columns]
    raise damaged("an entropy stage of 0 to 2", method)


def _encode_tans(codes: np.ndarray, n_symbols: int) -> bytes:
    lags = _LAGS[: np.searchsorted(_LAGS, codes.shape[0] // 2, side="right")]
    lag = int(neighbours.best_lag(codes, lags, max(codes.shape[1] // _SAMPLED_ROWS, 1)))
    thresholds = _thresholds(codes, lag)
    n_contexts, contexts = len(thresholds) + 1, _contexts(thresholds, 256)
    counts = scratch("counts", 4 * n_contexts * 256, np.uint32).reshape(4, -1)
    counts[:] = 0
    neighbours.count_codes(codes, lag, _COUNT_STEP, contexts, counts)
    met = counts.sum(axis=0, dtype=np.int64).reshape(n_contexts, 256)[:, :n_symbols]
    table_bits, frequencies = _table_bits(met), np.maximum(met, 1)
    tans_tables.normalize(frequencies, table_bits)
    steps = scratch("steps", n_contexts * 256, np.int64)
    states = scratch("states", n_contexts << table_bits, np.uint16)
    tans_tables.encoding_tables(frequencies, table_bits, steps.reshape(-1, 256), states.reshape(n_contexts, -1))
    part_rows = rows_of_part(codes.shape[0])
    ends = np.empty(-(-codes.shape[1] // part_rows), np.int64)
    out = scratch("bits", (codes.size + 4 * ends.size) * table_bits // 32 + 4, np.uint32)
    tans.encode_tans(codes, part_rows, lag, contexts, table_bits, steps, states, out, ends)
    n_bits = int(ends[-1])
    table = zstd.compress(frequencies.astype("<u2").view(np.uint8).reshape(-1, 2).T.copy())
    symbols = symbols_word(n_symbols, table_bits)
    head = np.array([lag, len(thresholds), symbols, len(table), *thresholds], "<u2")
    body = out[: -(-n_bits // 32)].view(np.uint8)[: -(-n_bits // 8)]
    return b"".join([bytes([_TANS]), head.tobytes(), ends.astype("<u4").tobytes(), table, body.tobytes()])


def _decode_tans(reader: PayloadReader, shape: tuple[int, int], n_wanted: int, rows: slice | np.ndarray) -> np.ndarray:
    content, head = reader.rest(), np.empty(HEAD_SIZE, np.int64)
    wrong = tans_head.read_head(content, *shape, head)
    if wrong:
        raise damaged(_EXPECTED[wrong], f"{content.size} bytes of others")
    lag, n_thresholds, n_symbols, at_frame, at_body, part_rows, n_parts, table_bits = head[:THRESHOLDS].tolist()
    thresholds = head[THRESHOLDS : THRESHOLDS + n_thresholds].astype(np.uint16)
    bounds = head[BOUNDS : BOUNDS + n_parts + 1].tolist()
    frame, body = content[at_frame:at_body], content[at_body:]
    if isinstance(rows, slice):
        low, high, _ = rows.indices(shape[1])
        needed: Sequence[int] = range(low // part_rows, (high - 1) // part_rows + 1)
    else:
        needed = sorted(set((rows // part_rows).tolist()))
    n_guard = tans.guard_words(part_rows)
    # From the first part that is needed to the last: a few rows are a small piece of the payload.
    begin = bounds[needed[0]] // 8
    body = body[begin : -(-bounds[needed[-1] + 1] // 8)]
    words = scratch("words", n_guard + body.size // 8 + 2, np.uint64)
    heights = [min(part_rows, shape[1] - part * part_rows) for part in needed]
    shift = 64 * n_guard - 8 * begin
    parts = np.array([[shift + bounds[p], shift + bounds[p + 1], n] for p, n in zip(needed, heights, strict=True)])
    codes = np.empty((n_wanted, sum(heights)), np.uint8)
    if len(needed) == n_parts:
        planes = zstd.decompress(frame, 2 * (n_thresholds + 1) * n_symbols)
        room = scratch("tables", (n_thresholds + 1) << table_bits, np.uint32).reshape(n_thresholds + 1, -1)
        n_left = tans_payload.decode_payload(
            body, n_guard, words, planes, thresholds, room, parts, lag, table_bits, codes
        )
        if n_left == tans_payload.NO_TABLES:
            raise damaged("frequencies", f"others than add up to {1 << table_bits}")
    else:
        tables, contexts = _tables_of_part(frame.tobytes(), n_symbols, tuple(thresholds.tolist()), table_bits)
        # A number of each cache line: read one by one as codes come up, kept tables took as long as decoding.
        tables[::_LINE_WORDS].max()
        tans_payload.lay_words(body, n_guard, words)
        n_left = tans_payload.decode_tans(words, parts, lag, contexts, table_bits, tables, codes)
    # The end can be looked at only where it is reached; what is read is held against its digest before.
    if n_left < 0 or (n_left and n_wanted == shape[0]):
        raise damaged("codes that end with their part", "others")
    # The parts that were decoded lie side by side, and all but the last are of one size.
    if isinstance(rows, slice):
        first = low - needed[0] * part_rows
        return codes[:, first : first + high - low]
    return codes[:, np.searchsorted(needed, rows // part_rows) * part_rows + rows % part_rows]


@lru_cache(maxsize=_KEPT_TABLES)
def _tables_of_part(
    frame: bytes, n_symbols: int, thresholds: tuple[int, ...], table_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """The coder's tables and the contexts of sums, kept: they take longer than some rows, and the next question asks
    rows beside them.
    """
    tables = np.empty((len(thresholds) + 1, 1 << table_bits), np.uint32)
    planes = zstd.decompress(np.frombuffer(frame, np.uint8), 2 * len(tables) * n_symbols)
    if not tans_tables.decoding_tables(planes, table_bits, tables):
        raise damaged("frequencies", f"others than add up to {1 << table_bits}")
    return tables.reshape(-1), _contexts(thresholds, 1 << table_bits)


def _table_bits(met: np.ndarray) -> int:
    """Frequencies of symbols, met so many times, (n_contexts, n_symbols), are multiples of this power of a half.

    Few states are laid out in less time. More of them for many symbols, where those that were not met, which get the
    least frequency each, would take too much from the others.
    """
    if met.shape[1] <= _FEW_SYMBOLS:
        return 10
    n_met = met.sum(axis=1)
    n_unmet = n_met @ (met == 0).sum(axis=1) / n_met.sum()
    return 11 if n_unmet <= _MOST_UNMET * 2**11 else MAX_TABLE_BITS


def _thresholds(codes: np.ndarray, lag: int) -> list[int]:
    """Sums of neighbours at which a context begins: zero apart, the others of about equal size."""
    counts = np.zeros(neighbours.N_SUMS, np.int64)
    column_step, row_step = (max(n // 64, 1) for n in codes.shape)
    neighbours.count_sums(codes, lag, column_step, row_step, counts)
    running = np.cumsum(counts[1:])
    if not running[-1]:
        return []
    wanted = running[-1] * np.arange(MAX_CONTEXTS - 1) // (MAX_CONTEXTS - 1)
    return sorted(set((np.searchsorted(running, wanted, side="right") + 1).tolist()))


def _contexts(thresholds: Sequence[int], size: int) -> np.ndarray:
    """The context of each sum, times a size."""
    contexts = np.empty(neighbours.N_SUMS, np.uint16)
    neighbours.context_of_sums(np.array(thresholds, np.uint16), size, contexts)
    return contexts
