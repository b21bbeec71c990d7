"""The entropy stage of every quantizer: small codes in few bytes, with neighbouring columns as context.

The columns of a chunk are mostly the positions of a feature map. A code is foreseen from those at its left and above:
the sum of the codes one column and `lag` columns before, in classes of about equal size, picks the table that the
coder uses (ADR 8).
"""

from __future__ import annotations

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.payload import PayloadReader, damaged
from mistique.codecs.threads import scratch
from mistique.kernels import neighbours, tans

_CONSTANT, _ZSTD, _TANS = 0, 1, 2
# Below, the tables weigh more than they save.
_MIN_CODES = 4096
_MAX_ROWS = 2**15
_MAX_CONTEXTS = 8
_MAX_TABLE_BITS = tans.MAX_TABLE_BITS
_SAMPLED_ROWS = 16
# Every third column tells how often codes come up: 0.2% more bytes than all of them, a fifth less time.
_COUNT_STEP = 3
# Widths of maps that are tried as the distance of the upper neighbour: all small ones, and the usual large ones.
_LAGS = np.array([*range(2, 65), 96, 112, 128, 160, 192, 224, 256])
_NO_CONTEXT = np.zeros(neighbours.N_SUMS, np.uint16)


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
    if codes.size < _MIN_CODES or codes.shape[1] > _MAX_ROWS:
        return bytes([_ZSTD]) + zstd.compress_codes(codes)
    return _encode_tans(codes, largest + 1)


def decode_codes(reader: PayloadReader, shape: tuple[int, int], *, n_columns: int | None = None) -> np.ndarray:
    """The codes that `encode_codes` was given, from all that a reader has left.

    Parameters
    ----------
    reader : PayloadReader
    shape : tuple of int
        Of what was encoded.
    n_columns : int, optional
        How many of its columns are wanted: those behind them are not decoded.

    Raises
    ------
    ChunkCorruptError
        They are not codes of that shape.
    """
    n_wanted = shape[0] if n_columns is None else n_columns
    (method,) = reader.unpack("<B")
    if method == _CONSTANT:
        (code,) = reader.unpack("<B")
        reader.end()
        return np.full((n_wanted, shape[1]), code, np.uint8)
    if method == _ZSTD:
        return zstd.decompress(reader.rest(), shape[0] * shape[1]).reshape(shape)[:n_wanted]
    if method == _TANS:
        return _decode_tans(reader, shape, n_wanted)
    raise damaged("an entropy stage of 0 to 2", method)


def _encode_tans(codes: np.ndarray, n_symbols: int) -> bytes:
    lags = _LAGS[: np.searchsorted(_LAGS, codes.shape[0] // 2, side="right")]
    lag = int(neighbours.best_lag(codes, lags, max(codes.shape[1] // _SAMPLED_ROWS, 1)))
    thresholds = _thresholds(codes, lag)
    classes = _classes(thresholds)
    n_contexts, contexts = len(thresholds) + 1, (classes * 256).astype(np.uint16)
    counts = scratch("counts", 4 * n_contexts * 256, np.uint32).reshape(4, -1)
    counts[:] = 0
    neighbours.count_codes(codes, lag, _COUNT_STEP, contexts, counts)
    frequencies = counts.sum(axis=0, dtype=np.int64).reshape(n_contexts, 256)
    table_bits = _table_bits(n_symbols)
    frequencies = np.maximum(frequencies[:, :n_symbols], 1)
    tans.normalize(frequencies, table_bits)
    steps = scratch("steps", n_contexts * 256, np.int64)
    states = scratch("states", n_contexts << table_bits, np.uint16)
    tans.encoding_tables(frequencies, table_bits, steps.reshape(-1, 256), states.reshape(n_contexts, -1))
    out = scratch("bits", codes.size * table_bits // 32 + 4, np.uint32)
    n_bits = tans.encode_tans(codes, lag, contexts, table_bits, steps, states, out)
    table = zstd.compress(frequencies.astype("<u2").view(np.uint8).reshape(-1, 2).T.copy())
    head = np.array([lag, len(thresholds), n_symbols, len(table), *thresholds], "<u2")
    length = np.array([n_bits], "<u4")
    body = out[: -(-n_bits // 32)].view(np.uint8)[: -(-n_bits // 8)]
    return b"".join([bytes([_TANS]), head.tobytes(), length.tobytes(), table, body.tobytes()])


def _decode_tans(reader: PayloadReader, shape: tuple[int, int], n_wanted: int) -> np.ndarray:
    lag, n_thresholds, n_symbols, n_table = reader.unpack("<4H")
    if not (lag >= 1 and n_thresholds < _MAX_CONTEXTS and 1 <= n_symbols <= 256):
        raise damaged("tables of up to 8 contexts", (lag, n_thresholds, n_symbols))
    thresholds = reader.unpack(f"<{n_thresholds}H")
    (n_bits,) = reader.unpack("<I")
    planes = zstd.decompress(reader.take(n_table), 2 * (n_thresholds + 1) * n_symbols)
    table_bits = _table_bits(n_symbols)
    frequencies = np.ascontiguousarray(planes.reshape(2, -1).T).view("<u2").reshape(-1, n_symbols).astype(np.int64)
    if (frequencies.sum(axis=1) != 1 << table_bits).any() or list(thresholds) != sorted(thresholds):
        raise damaged(f"frequencies that add up to {1 << table_bits}", frequencies.sum(axis=1).tolist())
    body = reader.rest()
    if body.size != -(-n_bits // 8) or n_bits < 4 * table_bits or shape[1] > _MAX_ROWS:
        raise damaged(f"{n_bits} bits", 8 * body.size)
    n_guard = tans.guard_words(shape[1])
    words = scratch("words", n_guard + body.size // 8 + 2, np.uint64)
    words[:n_guard] = 0
    words[n_guard + body.size // 8 :] = 0
    words[n_guard:].view(np.uint8)[: body.size] = body
    tables = scratch("tables", len(frequencies) << table_bits, np.uint32)
    tans.decoding_tables(frequencies, table_bits, tables.reshape(len(frequencies), -1))
    contexts = (_classes(thresholds) << table_bits).astype(np.uint16)
    codes = np.empty((n_wanted, shape[1]), np.uint8)
    n_left = tans.decode_tans(words, 64 * n_guard + n_bits, lag, contexts, table_bits, tables, codes)
    # The end can be looked at only where it is reached; what is read is held against its digest before.
    if n_left < 0 or (n_left and n_wanted == shape[0]):
        raise damaged("codes that end with the payload", "others")
    return codes


def _table_bits(n_symbols: int) -> int:
    """Frequencies are multiples of this power of a half: a table of many symbols is finer."""
    return 10 if n_symbols <= 40 else 11 if n_symbols <= 100 else _MAX_TABLE_BITS


def _thresholds(codes: np.ndarray, lag: int) -> list[int]:
    """Sums of neighbours at which a context begins: zero apart, the others of about equal size."""
    counts = np.zeros(neighbours.N_SUMS, np.int64)
    column_step, row_step = (max(n // 64, 1) for n in codes.shape)
    neighbours.count_sums(codes, lag, column_step, row_step, counts)
    running = np.cumsum(counts[1:])
    if not running[-1]:
        return []
    wanted = running[-1] * np.arange(_MAX_CONTEXTS - 1) // (_MAX_CONTEXTS - 1)
    return sorted(set((np.searchsorted(running, wanted, side="right") + 1).tolist()))


def _classes(thresholds: list[int] | tuple[int, ...]) -> np.ndarray:
    """The context of each sum."""
    return (
        np.searchsorted(np.array(thresholds), np.arange(neighbours.N_SUMS), side="right") if thresholds else _NO_CONTEXT
    )
