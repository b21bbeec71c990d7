"""The entropy stage of every quantizer: small codes in few bytes, fast or with neighbouring columns as context.

The columns of a chunk are mostly the positions of a feature map. A code is foreseen from those at its left and above:
the sum of the codes one column and `lag` columns before, in eight classes of about equal size, picks the table that the
rANS coder uses (ADR 8).
"""

from __future__ import annotations

import numpy as np

from mistique.codecs import zstd
from mistique.codecs.payload import PayloadReader, damaged
from mistique.codecs.threads import scratch
from mistique.kernels import rans as kernels
from mistique.kernels import split

_CONSTANT, _ZSTD, _RANS, _SPLIT = 0, 1, 2, 3
_N_STREAMS = 4
# Below, the tables of rANS weigh more than they save.
_MIN_CODES = 4096
_MAX_CONTEXTS = 8
_SAMPLED_ROWS = 16
_TOTAL = 1 << kernels.PROBABILITY_BITS
_NO_CONTEXT = np.zeros(kernels.N_SUMS, np.uint16)


def encode_codes(codes: np.ndarray, *, is_smallest: bool = False) -> bytes:
    """Codes of shape (n_columns, n_rows), uint8 and C-contiguous, as bytes that say what they are.

    In streams by the left neighbour, each by zstd; with `is_smallest` by rANS with more context: a tenth fewer bytes,
    five times the time.

    Examples
    --------
    >>> codes = np.arange(6, dtype=np.uint8).reshape(2, 3)
    >>> bool((decode_codes(PayloadReader(np.frombuffer(encode_codes(codes), np.uint8)), (2, 3)) == codes).all())
    True
    """
    if codes.size and codes.min() == codes.max():
        return bytes([_CONSTANT, codes[0, 0]])
    if codes.size < _MIN_CODES or codes.shape[1] > 2**15:
        return bytes([_ZSTD]) + zstd.compress_codes(codes)
    return _encode_rans(codes) if is_smallest else _encode_split(codes)


def decode_codes(reader: PayloadReader, shape: tuple[int, int]) -> np.ndarray:
    """The codes that `encode_codes` was given, from all that a reader has left.

    Raises
    ------
    ChunkCorruptError
        They are not codes of that shape.
    """
    (method,) = reader.unpack("<B")
    if method == _CONSTANT:
        (code,) = reader.unpack("<B")
        reader.end()
        return np.full(shape, code, np.uint8)
    if method == _ZSTD:
        return zstd.decompress(reader.rest(), shape[0] * shape[1]).reshape(shape)
    if method == _RANS:
        return _decode_rans(reader, shape)
    if method == _SPLIT:
        return _decode_split(reader, shape)
    raise damaged("an entropy stage of 0 to 3", method)


def _encode_split(codes: np.ndarray) -> bytes:
    """Streams by the left neighbour: zero, and three classes of about equal size; each by zstd's Huffman code."""
    counts = np.bincount(np.ascontiguousarray(codes[:, :: max(codes.shape[1] // 64, 1)]).reshape(-1), minlength=256)
    running = np.cumsum(counts[1:])
    wanted = running[-1] * np.arange(1, _N_STREAMS - 1) // (_N_STREAMS - 1)
    thresholds = np.minimum([1, *(np.searchsorted(running, wanted, side="right") + 2)], 255).astype(np.uint8)
    streams = scratch("streams", _N_STREAMS * (codes.size + 1), np.uint8).reshape(_N_STREAMS, -1)
    lengths = np.zeros(_N_STREAMS, np.int64)
    split.split_codes(codes, _followers(thresholds), streams, lengths)
    frames = [zstd.compress_codes(streams[k, :length]) for k, length in enumerate(lengths.tolist())]
    head = np.array([*lengths, *map(len, frames)], "<u4")
    return b"".join([bytes([_SPLIT]), thresholds.tobytes(), head.tobytes(), *frames])


def _decode_split(reader: PayloadReader, shape: tuple[int, int]) -> np.ndarray:
    thresholds = np.frombuffer(reader.take(_N_STREAMS - 1).tobytes(), np.uint8)
    head = reader.unpack(f"<{2 * _N_STREAMS}I")
    lengths = head[:_N_STREAMS]
    if sum(lengths) != shape[0] * shape[1] or (np.diff(thresholds.astype(int)) < 0).any():
        raise damaged(f"streams of {shape[0] * shape[1]} codes", (lengths, thresholds.tolist()))
    streams = np.concatenate(
        [zstd.decompress(reader.take(n), length) for n, length in zip(head[_N_STREAMS:], lengths, strict=True)]
    )
    reader.end()
    ends = np.cumsum(lengths)
    codes = np.empty(shape, np.uint8)
    if not split.join_codes(streams, ends - lengths, ends, _followers(thresholds), codes):
        raise damaged("streams by context", "others")
    return codes


def _followers(thresholds: np.ndarray) -> np.ndarray:
    """The stream of what follows each code."""
    return np.searchsorted(thresholds, np.arange(256), side="right").astype(np.uint8)


def _encode_rans(codes: np.ndarray) -> bytes:
    lag = int(kernels.best_lag(codes, max(codes.shape[1] // _SAMPLED_ROWS, 1)))
    thresholds = _thresholds(codes, lag)
    contexts = _contexts(thresholds)
    counts = np.zeros((4, (len(thresholds) + 1) * 256), np.int64)
    kernels.count_codes(codes, lag, contexts, counts)
    frequencies = counts.sum(axis=0).reshape(-1, 256)
    kernels.normalize(frequencies)
    n_symbols = int(np.flatnonzero(frequencies.any(axis=0))[-1]) + 1
    entries, inverses = _entries(frequencies)
    out = scratch("rans", codes.size + 9, np.uint16)
    free = kernels.encode_rans(codes, lag, contexts, entries, inverses, out)
    table = zstd.compress(frequencies[:, :n_symbols].astype("<u2").view(np.uint8).reshape(-1, 2).T.copy())
    head = np.array([lag, len(thresholds), n_symbols, len(table), *thresholds], "<u2")
    return b"".join([bytes([_RANS]), head.tobytes(), table, out[free:].tobytes()])


def _decode_rans(reader: PayloadReader, shape: tuple[int, int]) -> np.ndarray:
    lag, n_thresholds, n_symbols, n_table = reader.unpack("<4H")
    if not (lag >= 1 and n_thresholds < _MAX_CONTEXTS and 1 <= n_symbols <= 256):
        raise damaged("tables of up to 8 contexts", (lag, n_thresholds, n_symbols))
    thresholds = reader.unpack(f"<{n_thresholds}H")
    planes = zstd.decompress(reader.take(n_table), 2 * (n_thresholds + 1) * n_symbols)
    frequencies = np.zeros((n_thresholds + 1, 256), np.int64)
    frequencies[:, :n_symbols] = np.ascontiguousarray(planes.reshape(2, -1).T).view("<u2").reshape(-1, n_symbols)
    if (frequencies.sum(axis=1) != _TOTAL).any() or list(thresholds) != sorted(thresholds):
        raise damaged(f"frequencies that add up to {_TOTAL}", frequencies.sum(axis=1).tolist())
    body = reader.rest()
    if body.size % 2 or body.size < 16:
        raise damaged("words of two bytes", body.size)
    words = scratch("rans", body.size // 2 + shape[1], np.uint16)
    words[: body.size // 2].view(np.uint8)[:] = body
    words[body.size // 2 :] = 0
    symbols = np.tile(np.arange(256, dtype=np.uint8), n_thresholds + 1)
    slots = np.repeat(symbols, frequencies.reshape(-1))
    entries, _ = _entries(frequencies)
    codes = np.empty(shape, np.uint8)
    if not kernels.decode_rans(words, lag, _contexts(thresholds), slots, entries.astype(np.uint32), codes):
        raise damaged("codes that end with the payload", "others")
    return codes


def _thresholds(codes: np.ndarray, lag: int) -> list[int]:
    """Sums of neighbours at which a context begins: zero apart, the others of about equal size."""
    counts = np.zeros(kernels.N_SUMS, np.int64)
    kernels.count_sums(codes, lag, max(codes.shape[1] // 64, 1), counts)
    running = np.cumsum(counts[1:])
    if not running[-1]:
        return []
    wanted = running[-1] * np.arange(_MAX_CONTEXTS - 1) // (_MAX_CONTEXTS - 1)
    return sorted(set((np.searchsorted(running, wanted, side="right") + 1).tolist()))


def _contexts(thresholds: list[int] | tuple[int, ...]) -> np.ndarray:
    """The context of each sum, times 256."""
    if not thresholds:
        return _NO_CONTEXT
    contexts = np.searchsorted(np.array(thresholds), np.arange(kernels.N_SUMS), side="right")
    return (contexts * 256).astype(np.uint16)


def _entries(frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum(frequencies, axis=1) - frequencies
    entries = (starts << 16 | frequencies).astype(np.uint64)
    inverses = np.where(frequencies, (1 << 42) // np.maximum(frequencies, 1) + 1, 0).astype(np.uint64)
    return entries.reshape(-1), inverses.reshape(-1)
